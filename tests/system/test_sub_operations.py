"""C-MOVE and C-GET with faults, or with many operations at once (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts

from tests.processes import wait_until
from tests.samples import cr, ct_series, dx, encode, instance, uid
from tests.system import pynetdicom_peers
from tests.system.node import Node, Remote
from tests.system.peers import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT, StoreSCP, getscu, movescu
from tests.system.pynetdicom_peers import MOVE, NATIVE, Sink, association, counts, get, identifier, move

CT, DX = str(CTImageStorage), str(DigitalXRayImageStorageForPresentation)
STUDY = {"StudyInstanceUID": uid("1")}
CTS = [encode(ds) for ds in ct_series(5)]
UIDS = [sample.sop_instance_uid for sample in CTS]


@pytest.fixture
def holding(start_node):
    """Return ``holding(remote, settings=...)``: a node that holds CTS and knows a Move Destination."""

    def start(remote: Remote, **settings):
        node = start_node(remotes=[remote], settings={"node": settings})
        assert {answer.status for answer in node.send(CTS)} == {0}
        return node

    return start


def facts(answer):
    """Return the values of a final response."""
    return answer.status, answer.completed, answer.failed, answer.warning, sorted(answer.failed_list)


# ------------------------------------------------------------------------------------------------- what is selected


@pytest.fixture(scope="module")
def three_studies(tmp_path_factory):
    """Return a node with two studies of one patient and one of another, and a Move Destination; tests add nothing."""
    folder = tmp_path_factory.mktemp("three_studies")
    sink = StoreSCP(folder / "sink")
    node = Node(folder / "node", remotes=[sink.remote])
    sink.start()
    node.start()
    samples = [encode(ds) for number in (10, 2) for ds in ct_series(11, study="1", series=str(number))]
    samples += [encode(dx(study="2")), encode(cr(study="3", PatientID="PID2"))]
    assert {answer.status for answer in node.send(samples)} == {0}
    yield node, sink
    node.close()
    sink.process.close()


SERIES_2, SERIES_10 = uid("1", "2"), uid("1", "10")
IMAGES = [uid("1", "2", number, CTImageStorage) for number in (3, 7)]


@pytest.mark.parametrize(
    ("model", "level", "keys", "completed"),
    [
        (PATIENT_ROOT, "PATIENT", {"PatientID": "PID1"}, 23),
        (PATIENT_STUDY_ONLY, "PATIENT", {"PatientID": "PID2"}, 1),
        (PATIENT_STUDY_ONLY, "STUDY", {"PatientID": "PID1", "StudyInstanceUID": uid("2")}, 1),
        (STUDY_ROOT, "STUDY", {"StudyInstanceUID": f"{uid('2')}\\{uid('3')}"}, 2),
        (STUDY_ROOT, "SERIES", STUDY | {"SeriesInstanceUID": f"{SERIES_2}\\{SERIES_10}"}, 22),
        (PATIENT_ROOT, "SERIES", STUDY | {"PatientID": "PID1", "SeriesInstanceUID": SERIES_2}, 11),
        (STUDY_ROOT, "IMAGE", STUDY | {"SeriesInstanceUID": SERIES_2, "SOPInstanceUID": "\\".join(IMAGES)}, 2),
        (STUDY_ROOT, "STUDY", {"StudyInstanceUID": uid("not held")}, 0),
    ],
)
def test_unique_keys_of_every_level(three_studies, tmp_path, model, level, keys, completed):
    node, sink = three_studies
    before = set(sink.files())

    moved = movescu(node, "SINK", level, keys, model=model)
    got = getscu(node, tmp_path / "got", level, keys, model=model)

    for done, received in ((moved, set(sink.files()) - before), (got, list((tmp_path / "got").iterdir()))):
        assert (done.status, done.completed, done.failed, done.warning) == (0, completed, 0, 0)
        assert len(received) == completed


@pytest.mark.parametrize(
    ("model", "level", "keys"),
    [
        (STUDY_ROOT, "STUDY", {}),
        (STUDY_ROOT, "SERIES", STUDY),
        (STUDY_ROOT, "IMAGE", STUDY | {"SeriesInstanceUID": SERIES_2}),
        (PATIENT_ROOT, "PATIENT", {"PatientName": "Family*"}),
        (STUDY_ROOT, "PATIENT", {"PatientID": "PID1"}),
        (PATIENT_STUDY_ONLY, "SERIES", STUDY | {"SeriesInstanceUID": SERIES_2}),
    ],
)
def test_a_request_without_its_unique_key_or_level_is_refused(three_studies, tmp_path, model, level, keys):
    node, sink = three_studies
    before = sink.files()

    assert movescu(node, "SINK", level, keys, model=model).status == 0xA900
    assert getscu(node, tmp_path / "got", level, keys, model=model).status == 0xA900
    assert (sink.files(), list((tmp_path / "got").iterdir())) == (before, [])


def test_series_and_instances_come_in_the_order_of_their_numbers(start_node):
    with Sink({CT: NATIVE}) as sink:
        node = start_node(remotes=[sink.remote])
        for number in (10, 2, 1):
            node.send(encode(ds) for ds in reversed(ct_series(11, study="1", series=str(number))))

        moved = move(node, "SINK", "STUDY", STUDY)[-1]
        _, stored = get(node, "STUDY", STUDY, {CT: NATIVE})

    expected = [uid("1", series, number, CTImageStorage) for series in (1, 2, 10) for number in range(1, 12)]
    assert (moved.status, [one.sop_instance_uid for one in sink.stored]) == (0, expected)
    assert [one.sop_instance_uid for one in stored] == expected


@pytest.mark.parametrize(("extended", "status"), [(b"", 0xA900), (b"\0", 0xA900), (b"\1", 0)])
def test_relational_retrieval_when_negotiated(holding, extended, status):
    """In a strict node only it does without the Study Instance UID (PS3.4 C.4.2.2.2.1)."""
    series = {"SeriesInstanceUID": uid("1", "2")}
    with Sink({CT: NATIVE}) as sink:
        node = holding(sink.remote, strict_hierarchy=True)

        moved = move(node, "SINK", "SERIES", series, negotiated=extended)[-1]
        answers, _ = get(node, "SERIES", series, {CT: NATIVE}, negotiated=extended)

    assert (moved.status, len(sink.stored)) == (status, 0 if status else 5)
    assert answers[-1].status == status


# ------------------------------------------------------------------------------------------ destinations of all tempers


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_storescp_that_aborts_at_every_instance(holding, start_storescp, option):
    node = holding(start_storescp(options=("+xa", option)).remote)

    *pending, final = move(node, "SINK", "STUDY", STUDY)

    told = dict.fromkeys((one.remaining, one.failed) for one in pending)  # twice, where one takes its time
    assert list(told) == [(5, 0), (4, 1), (3, 2), (2, 3), (1, 4)]
    assert facts(final) == (0xA702, 0, 5, 0, sorted(UIDS))
    assert all(one.failed_list == () for one in pending)


def test_storescp_that_is_killed_in_the_middle(holding, start_storescp):
    """Nothing listens any more; the first instance may have been confirmed before."""
    storescp = start_storescp(options=("+xa", "--sleep-after", "60"))
    node = holding(storescp.remote)

    with ThreadPoolExecutor() as pool:
        moving = pool.submit(move, node, "SINK", "STUDY", STUDY)
        wait_until(storescp.files)
        storescp.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(storescp.process.pid, signal.SIGKILL)
        final = moving.result()[-1]

    confirmed = final.completed
    assert confirmed in {0, 1}
    assert facts(final) == (0xB000 if confirmed else 0xA702, confirmed, 5 - confirmed, 0, sorted(UIDS[confirmed:]))
    assert node.echo()


def test_a_destination_that_stops_answering(holding):
    """Each instance that it may be stuck on is given up, and after three in a row the destination."""
    done = threading.Event()

    def answer(stored) -> int:
        if stored.sop_instance_uid != UIDS[0]:
            done.wait(60)
        return 0

    with Sink({CT: NATIVE}, answer) as sink:
        node = holding(sink.remote, network_timeout_s=1)
        *pending, final = move(node, "SINK", "STUDY", STUDY)
        done.set()

    told = dict.fromkeys((one.completed, one.failed) for one in pending)
    assert [each for each in told if each != (1, 0)] == [(0, 0), (1, 1), (1, 2), (1, 3)]
    assert facts(final) == (0xB000, 1, 4, 0, sorted(UIDS[1:]))


def test_a_destination_whose_name_is_not_known(holding):
    node = holding(Remote("nowhere", "NOWHERE", 104, host="no-such-host.invalid"))

    final = move(node, "NOWHERE", "STUDY", STUDY)[-1]

    assert facts(final) == (0xA702, 0, 5, 0, sorted(UIDS))
    assert "DNS" in final.error_comment


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_destination_that_warns(holding, status):
    with Sink({CT: NATIVE}, lambda stored: status if stored.sop_instance_uid in UIDS[:2] else 0) as sink:
        *pending, final = move(holding(sink.remote), "SINK", "STUDY", STUDY)

    told = [(one.remaining, one.completed, one.warning) for one in pending]
    assert told[:3] == [(5, 0, 0), (4, 0, 1), (3, 0, 2)]
    assert set(told[3:]) <= {(2, 1, 2), (1, 2, 2)}  # of what goes well now and then
    assert facts(final) == (0xB000, 3, 0, 2, [])


def test_two_requestors_at_once(start_node):
    """Each sub-operation names its own C-MOVE, and no Message ID is used twice on an association (PS3.7 9.3.1.1)."""
    with Sink({CT: NATIVE}) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(encode(ds) for study in "12" for ds in ct_series(40, study=study))

        def start(study: str, message_id: int):
            keys = {"StudyInstanceUID": uid(study)}
            return move(node, "SINK", "STUDY", keys, calling=f"WS{study}", message_id=message_id)[-1]

        with ThreadPoolExecutor() as pool:
            finals = list(pool.map(start, "12", (7, 65535)))

    assert [facts(final) for final in finals] == [(0, 40, 0, 0, [])] * 2
    assert {(one.move_originator, one.move_message_id) for one in sink.stored} == {("WS1", 7), ("WS2", 65535)}
    assert len({(id(one.association), one.message_id) for one in sink.stored}) == 80
    first = {uid("1", "2", number, CTImageStorage) for number in range(1, 41)}
    assert {one.sop_instance_uid for one in sink.stored if one.move_originator == "WS1"} == first


def test_a_destination_that_takes_one_association_at_a_time(start_node):
    """The second one is rejected with "local limit exceeded", and requested again until the first has ended."""
    with Sink({CT: NATIVE}, maximum_associations=1) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(encode(ds) for study in "123" for ds in ct_series(20, study=study))

        with ThreadPoolExecutor() as pool:
            finals = list(
                pool.map(lambda s: move(node, "SINK", "STUDY", {"StudyInstanceUID": uid(s)}, calling=s)[-1], "123")
            )

    assert [facts(final) for final in finals] == [(0, 20, 0, 0, [])] * 3
    assert len(sink.stored) == 60


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_the_priority_is_that_of_the_sub_operations(holding, priority):
    with Sink({CT: NATIVE}) as sink:
        assert move(holding(sink.remote), "SINK", "STUDY", STUDY, priority=priority)[-1].status == 0

    assert {one.priority for one in sink.stored} == {priority}


# ------------------------------------------------------------------------------------------------------------ C-CANCEL


def test_cancel_while_the_destination_is_slow(holding):
    """It has two instances, and will not answer the second; the requestor does not wait for it."""
    slow, done = threading.Event(), threading.Event()

    def answer(stored) -> int:
        if stored.sop_instance_uid == UIDS[1]:
            slow.set()
            done.wait(60)
        return 0

    model = pynetdicom_peers.STUDY_ROOT + MOVE
    with Sink({CT: NATIVE}, answer) as sink:
        node = holding(sink.remote)
        with association(node, model) as requestor, ThreadPoolExecutor() as pool:
            answers = pool.submit(list, requestor.send_c_move(identifier("STUDY", STUDY), "SINK", model))
            assert slow.wait(60)
            requestor.send_c_cancel(1, query_model=model)
            final = counts(*answers.result()[-1])
            done.set()
            assert requestor.is_established
        wait_until(lambda: len(sink.stored) >= 2)  # it notes the second when it has made up its mind, on its own thread

    assert facts(final) == (0xFE00, 1, 1, 0, [UIDS[1]])
    assert final.remaining == 3
    assert [one.sop_instance_uid for one in sink.stored] == UIDS[:2]


def test_a_get_is_cancelled(holding):
    node = holding(Remote("nobody", "NOBODY", 104))

    answers, stored = get(node, "STUDY", STUDY, {CT: NATIVE}, cancel_after=2)

    *pending, final = answers
    assert [one.remaining for one in pending] in ([5], [5, 4], [5, 3], [5, 4, 3])  # at once, then now and then
    assert facts(final) == (0xFE00, 2, 0, 0, [])
    assert (final.remaining, len(stored)) == (3, 2)


# --------------------------------------------------------------------------------------------------------------- C-GET


def test_a_get_without_role_selection_fails_by_name(holding):
    node = holding(Remote("nobody", "NOBODY", 104))

    answers, stored = get(node, "STUDY", STUDY, {CT: NATIVE}, as_scp=False)

    assert facts(answers[-1]) == (0xA702, 0, 5, 0, sorted(UIDS))
    assert stored == []
    assert node.echo()


def test_a_get_that_its_requestor_refuses_and_warns_of(holding):
    node = holding(Remote("nobody", "NOBODY", 104))
    statuses = dict(zip(UIDS, (0xA700, 0xB000, 0xC001, 0xB007, 0), strict=True))

    answers, _ = get(node, "STUDY", STUDY, {CT: NATIVE}, answer=lambda stored: statuses[stored.sop_instance_uid])

    assert facts(answers[-1]) == (0xB000, 1, 2, 2, sorted([UIDS[0], UIDS[2]]))


def test_70_sop_classes_in_two_syntaxes_one_of_them_refused(start_node):
    """One hundred and forty contexts are two associations; what neither takes is counted and named."""
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts][:70]
    samples = [encode(instance(one, number=1)) for one in classes] + [
        encode(instance(one, number=2), ImplicitVRLittleEndian) for one in classes
    ]
    refused = {classes[3], *classes[40:]}
    with Sink({one: NATIVE for one in classes if one not in refused}) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)
        final = move(node, "SINK", "STUDY", STUDY)[-1]

    missing = sorted(sample.sop_instance_uid for sample in samples if sample.sop_class_uid in refused)
    assert facts(final) == (0xB000, 140 - len(missing), len(missing), 0, missing)
    assert len(sink.stored) == 140 - len(missing)
