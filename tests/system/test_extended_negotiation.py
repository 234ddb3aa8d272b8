"""SOP Class Extended Negotiation with pynetdicom as SCU: each accepted option works (PS3.4 C.5)."""

from __future__ import annotations

import pytest

from tests.samples import ct_series, dx, encode, uid
from tests.system import peers
from tests.system.node import Node
from tests.system.pynetdicom_peers import FIND, GET, MOVE, PATIENT_ROOT, STUDY_ROOT, association, find

LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
RELATIONAL, DATE_TIME, FUZZY = b"\1", b"\0\1", b"\0\0\1"
EMPTY, MULTIPLE, NOTHING = b"\0\0\0\0\0\1", b"\0\0\0\0\0\0\1", b"\0\0\0\0\0\0\0"


@pytest.fixture(scope="module", params=[False, True], ids=["lenient", "strict"])
def archive(request, tmp_path_factory):
    """Return a running node with three studies and its `strict_hierarchy`; no test here adds to it."""
    folder = tmp_path_factory.mktemp("negotiated")
    node = Node(folder / "node", settings={"node": {"strict_hierarchy": request.param}})
    node.start()
    early = {
        "StudyDate": "20240101",
        "StudyTime": "0900",
        "PatientName": "Döe^Jane",
        "SpecificCharacterSet": "ISO_IR 192",
    }
    late = {"StudyDate": "20240102", "StudyTime": "1500", "PatientName": "ROE^JANE", "PatientID": "PID2"}
    nameless = {"StudyDate": "20240103", "StudyTime": "1000", "PatientName": "", "PatientID": "PID3"}
    data_sets = [
        *ct_series(2, study="1", **early),
        dx(study="1", **early),
        dx(study="2", **late),
        dx(study="3", **nameless),
    ]
    assert {answer.status for answer in node.send(map(encode, data_sets))} == {0}
    yield node, request.param
    node.close()


def studies(*numbers: str) -> list[str]:
    return sorted(uid(number) for number in numbers)


@pytest.mark.parametrize(
    ("extended", "keys", "with_it", "without"),
    [
        (DATE_TIME, {"StudyDate": "20240101-20240103", "StudyTime": "1000-1200"}, "23", "3"),
        (FUZZY, {"PatientName": "jane doe"}, "1", ""),
        (FUZZY, {"PatientName": "JANE"}, "12", ""),
        (EMPTY, {"PatientName": '""'}, "3", ""),
        (MULTIPLE, {"ModalitiesInStudy": ["CT", "DX"]}, "1", "123"),
    ],
    ids=["date and time", "order of components", "one component", "empty value", "multiple values"],
)
def test_what_is_negotiated_is_done_and_nothing_else(archive, extended, keys, with_it, without):
    node, _ = archive
    asked = {"StudyInstanceUID": "", **keys}

    assert find(node, "STUDY", asked, negotiated=extended).values("StudyInstanceUID") == studies(*with_it)
    assert find(node, "STUDY", asked, negotiated=NOTHING).values("StudyInstanceUID") == studies(*without)
    assert find(node, "STUDY", asked).values("StudyInstanceUID") == studies(*without)


@pytest.mark.parametrize("level", ["SERIES", "IMAGE"])
@pytest.mark.parametrize("model", [STUDY_ROOT, PATIENT_ROOT])
def test_a_query_without_the_keys_above_its_level(archive, model, level):
    """Answered by default, as old consoles ask it; refused in a strict node, but for relational queries."""
    node, strict = archive
    keys = {"Modality": "CT", "SeriesInstanceUID": "", "SOPInstanceUID": ""}

    plain = find(node, level, keys, model=model)
    relational = find(node, level, keys, model=model, negotiated=RELATIONAL)

    assert plain.status == (0xA900 if strict else 0)
    assert bool(plain.matches) is not strict
    assert (relational.status, len(relational.matches)) == (0, 1 if level == "SERIES" else 2)
    assert {match.RetrieveAETitle for match in relational.matches} == {"BACKUP_SCP"}


@pytest.mark.parametrize(
    ("service", "answered"),
    [(FIND, {1: b"\1", 3: b"\1\1\1", 7: b"\1\1\1\1\0\1\1"}), (MOVE, {1: b"\1", 2: b"\1\0"}), (GET, {2: b"\1\0"})],
    ids=["C-FIND", "C-MOVE", "C-GET"],
)
def test_the_answer_is_as_long_as_what_was_asked_and_true(archive, service, answered):
    node, _ = archive
    for length, expected in answered.items():
        with association(node, STUDY_ROOT + service, negotiated=b"\1" * length) as opened:
            ((sop_class, said),) = opened.acceptor.sop_class_extended.items()
        assert (sop_class, said) == (STUDY_ROOT + service, expected)


@pytest.mark.parametrize("model", [peers.PATIENT_ROOT, peers.STUDY_ROOT, peers.PATIENT_STUDY_ONLY])
@pytest.mark.parametrize("level", LEVELS)
def test_findscu_at_every_level_of_every_model(archive, model, level):
    """Each level that the model has answers with what a viewer needs to go on; others are refused."""
    node, _ = archive
    above = {"PatientID": "PID1", "StudyInstanceUID": uid("1"), "SeriesInstanceUID": uid("1", "2")}
    depth = LEVELS.index(level)
    names = {
        "PATIENT": "PatientID",
        "STUDY": "StudyInstanceUID",
        "SERIES": "SeriesInstanceUID",
        "IMAGE": "SOPInstanceUID",
    }
    keys = dict(list(above.items())[:depth]) | {names[level]: "", "InstanceAvailability": "", "RetrieveAETitle": ""}
    missing = {peers.STUDY_ROOT: {"PATIENT"}, peers.PATIENT_STUDY_ONLY: {"SERIES", "IMAGE"}}.get(model, set())
    query = [argument for name, value in keys.items() for argument in ("-k", f"{name}={value}")]
    if level in missing:
        at = ["-aec", node.ae_title, node.host, str(node.port)]
        done = peers.dcmtk("findscu", "-d", model, "-k", f"QueryRetrieveLevel={level}", *query, *at, exit_code=None)
        assert peers.final_status(done.stdout) == 0xA900
        return

    answers = peers.findscu(node, level, keys, model=model)

    assert len(answers) == {"PATIENT": 3, "STUDY": 1, "SERIES": 2, "IMAGE": 2}[level]
    assert {answer.RetrieveAETitle for answer in answers} == {"BACKUP_SCP"}
    assert {answer.InstanceAvailability for answer in answers} == {"ONLINE"}
    assert all(answer[names[level]].value for answer in answers)
