"""C-FIND from other programs (PS3.4 C.4.1)."""

from __future__ import annotations

import dataclasses

import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.samples import Sample, cr, ct_series, dx, encode, one_of_each, secondary_capture, uid, with_value
from tests.system import peers, raw_sender
from tests.system.node import Node
from tests.system.pynetdicom_peers import FIND, PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT, find, identifier

# PS3.5 H.3.1 writes names like this.  In the bytes of 宮 and of 予 stand a backslash and a =: decode, then split.
JAPANESE_NAME = "Miyamoto^Yo=宮本^予=みやもと^よ"
JAPANESE_BYTES = (
    b"Miyamoto^Yo=\x1b$B5\\K\\\x1b(B^\x1b$BM=\x1b(B=\x1b$B$_$d$b$H\x1b(B^\x1b$B$h\x1b(B"  # codespell:ignore
)


def japanese(*, study: str) -> Sample:
    """Return an image whose name is written in JIS X 0208."""
    written = encode(dx(study=study, PatientID="JAPAN", StudyDate="20240120", SpecificCharacterSet="XX"))
    written = with_value(written, "SpecificCharacterSet", rb"\ISO 2022 IR 87")
    return with_value(written, "PatientName", JAPANESE_BYTES)


def held() -> list[Sample]:
    """Return what the archive of this module holds."""
    latin = {"PatientID": "LATIN", "PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"}
    utf_8 = {"PatientID": "UTF8", "PatientName": "Wang^XiaoDong=王^小东", "SpecificCharacterSet": "ISO_IR 192"}
    utf_8 |= {"StudyDate": "20240110", "StudyTime": "120000"}
    two = {"PatientID": "TWO", "PatientName": "Two^Studies"}
    data_sets = [
        dx(study="latin", StudyDate="20240105", StudyTime="073000.25", **latin),
        *ct_series(3, study="utf8", series="2", **utf_8),
        secondary_capture(study="utf8", series="3", **utf_8),
        dx(study="two.1", StudyDate="20240210", StudyTime="2359", **two),
        dx(study="two.2", series="1", StudyDate="20240220", StudyTime="", **two),
        cr(study="two.2", series="7", number=4, StudyDate="20240220", StudyTime="", **two),
        dx(study="A_1", PatientID="A_1", PatientName="Under_score^Ann", StudyDate="20231231"),
        dx(study="AX1", PatientID="AX1", PatientName="UnderXscore^Ann", StudyDate=""),
        dx(study="100%", PatientID="100%", PatientName="Percent^Per%", StudyDate="20250101"),
        dx(study="1000", PatientID="1000", PatientName="Percent^PerX", StudyDate="20250102"),
    ]
    return [*map(encode, data_sets), japanese(study="japan")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return a running node that holds `held()`; no test here adds to it."""
    node = Node(tmp_path_factory.mktemp("find") / "node")
    node.start()
    assert {answer.status for answer in node.send(held())} == {0}
    yield node
    node.close()


EVERYONE = {"100%", "1000", "A_1", "AX1", "JAPAN", "LATIN", "TWO", "UTF8"}
UNIVERSAL = {"PatientID": ""}
STUDIES = sorted(uid(study) for study in ("latin", "utf8", "two.1", "two.2", "A_1", "AX1", "100%", "1000", "japan"))


# ------------------------------------------------------------------------------------------------- models and levels


@pytest.mark.parametrize("model", [PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY])
def test_one_answer_for_each_study(archive, model):
    found = find(archive, "STUDY", {"StudyInstanceUID": "", **UNIVERSAL}, model=model)

    assert found.status == 0
    assert found.values("StudyInstanceUID") == STUDIES
    assert {match.QueryRetrieveLevel for match in found.matches} == {"STUDY"}


@pytest.mark.parametrize("model", [PATIENT_ROOT, PATIENT_STUDY_ONLY])
def test_one_answer_for_each_patient(archive, model):
    found = find(archive, "PATIENT", {"PatientName": "", **UNIVERSAL}, model=model)

    assert found.status == 0
    assert found.values("PatientID") == sorted(EVERYONE)


@pytest.mark.parametrize("model", [PATIENT_ROOT, STUDY_ROOT])
def test_one_answer_for_each_series_and_image_below_the_keys(archive, model):
    study = {"PatientID": "UTF8", "StudyInstanceUID": uid("utf8")}

    series = find(archive, "SERIES", {**study, "SeriesInstanceUID": "", "Modality": ""}, model=model)
    images = find(
        archive,
        "IMAGE",
        {**study, "SeriesInstanceUID": uid("utf8", "2"), "SOPInstanceUID": "", "InstanceNumber": ""},
        model=model,
    )

    assert series.values("SeriesInstanceUID") == sorted([uid("utf8", "2"), uid("utf8", "3")])
    assert series.values("Modality") == ["CT", "OT"]
    assert images.values("InstanceNumber") == ["1", "2", "3"]
    assert images.values("SOPInstanceUID") == sorted(uid("utf8", "2", n, CTImageStorage) for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("model", "level"),
    [(STUDY_ROOT, "PATIENT"), (PATIENT_STUDY_ONLY, "SERIES"), (PATIENT_ROOT, "WORKLIST"), (PATIENT_ROOT, "")],
)
def test_a_level_that_the_model_does_not_have_is_refused(archive, model, level):
    found = find(archive, level, UNIVERSAL, model=model)

    assert (found.status, found.matches) == (0xA900, ())
    assert "level" in found.error_comment.lower()


@pytest.mark.parametrize("model", [peers.PATIENT_ROOT, peers.STUDY_ROOT, peers.PATIENT_STUDY_ONLY])
@pytest.mark.parametrize("options", [(), ("-xi",), ("-xe",)], ids=["any syntax", "implicit", "explicit"])
def test_findscu(archive, model, options):
    keys = {"PatientID": "TWO", "StudyInstanceUID": "", "StudyDate": "", "PatientName": ""}

    answers = peers.findscu(archive, "STUDY", keys, model=model, options=options)

    assert sorted(answer.StudyInstanceUID for answer in answers) == sorted([uid("two.1"), uid("two.2")])
    assert sorted(answer.StudyDate for answer in answers) == ["20240210", "20240220"]
    assert {str(answer.PatientName) for answer in answers} == {"Two^Studies"}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_native_syntax(archive, syntax):
    found = find(
        archive, "STUDY", {"PatientID": "LATIN", "StudyDate": "", "ReferringPhysicianName": ""}, syntaxes=[syntax]
    )

    assert found.values("StudyDate") == ["20240105"]


# ---------------------------------------------------------------------------------------------------------- matching


@pytest.mark.parametrize(
    ("keys", "patients"),
    [
        # universal
        ({}, EVERYONE),
        ({"PatientName": "*"}, EVERYONE),
        # single value; only names are matched without regard to case
        ({"PatientID": "A_1"}, {"A_1"}),
        ({"PatientID": "a_1"}, set()),
        ({"PatientID": "A_1 "}, {"A_1"}),
        ({"PatientID": "nobody"}, set()),
        ({"PatientName": "Two^Studies"}, {"TWO"}),
        ({"AccessionNumber": "ACCtwo.1"}, {"TWO"}),
        ({"StudyID": "Slatin"}, {"LATIN"}),
        ({"PatientBirthDate": "19700501"}, EVERYONE),
        ({"PatientSex": "F"}, set()),
        # several keys
        ({"PatientID": "TWO", "StudyDate": "20240210"}, {"TWO"}),
        ({"PatientID": "TWO", "StudyDate": "20240110"}, set()),
        # list of UID
        ({"StudyInstanceUID": [uid("latin"), uid("A_1"), uid("not held")]}, {"LATIN", "A_1"}),
        ({"StudyInstanceUID": uid("not held")}, set()),
        # wild card: * and ? only
        ({"PatientID": "A?1"}, {"A_1", "AX1"}),
        ({"PatientID": "A_?"}, {"A_1"}),
        ({"PatientID": "A_*"}, {"A_1"}),
        ({"PatientID": "100%*"}, {"100%"}),
        ({"PatientID": "?00%"}, {"100%"}),
        ({"PatientID": "*00*"}, {"100%", "1000"}),
        ({"PatientID": "%"}, set()),
        ({"PatientID": "_*"}, set()),
        ({"PatientName": "Under_*"}, {"A_1"}),
        ({"PatientName": "Under?score*"}, {"A_1", "AX1"}),
        ({"PatientName": "*Per%"}, {"100%"}),
        ({"PatientName": "Two*"}, {"TWO"}),
        ({"AccessionNumber": "ACC?wo*"}, {"TWO"}),
        # ranges of dates
        ({"StudyDate": "20240105-20240110"}, {"LATIN", "UTF8"}),
        ({"StudyDate": "20240221-"}, {"100%", "1000"}),
        ({"StudyDate": "-20231231"}, {"A_1"}),
        ({"StudyDate": "20240106-20240109"}, set()),
        ({"StudyDate": "20240220"}, {"TWO"}),
        # ranges of times: hours and minutes alone, and fractions of a second, are times as well
        ({"StudyTime": "0730-0731"}, {"LATIN"}),
        ({"StudyTime": "073000.2-073000.3"}, {"LATIN"}),
        ({"StudyTime": "120000-"}, {"UTF8", "TWO"}),
        ({"StudyTime": "-0730"}, {"LATIN"}),
        ({"StudyTime": "115900-120000", "StudyDate": "20240101-20240131"}, {"UTF8"}),
        # the study's modalities, as a key
        ({"ModalitiesInStudy": "CT"}, {"UTF8"}),
        ({"ModalitiesInStudy": "CR"}, {"TWO"}),
        ({"ModalitiesInStudy": ["CT", "CR"]}, {"UTF8", "TWO"}),
        ({"ModalitiesInStudy": "C?"}, {"UTF8", "TWO"}),
        ({"ModalitiesInStudy": "C"}, set()),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("model", [STUDY_ROOT, PATIENT_ROOT], ids=["study root", "patient root"])
def test_matching(archive, model, keys, patients):
    found = find(archive, "STUDY", {"PatientID": "", **keys}, model=model)

    assert found.status == 0
    assert {str(match.PatientID) for match in found.matches} == patients


@pytest.mark.parametrize(
    ("level", "keys", "images"),
    [
        ("SERIES", {"StudyInstanceUID": uid("utf8"), "Modality": "CT"}, {"2"}),
        ("SERIES", {"StudyInstanceUID": uid("utf8"), "SeriesNumber": "3"}, {"3"}),
        ("SERIES", {"StudyInstanceUID": uid("utf8"), "SeriesInstanceUID": [uid("utf8", "2")]}, {"2"}),
        ("IMAGE", {"StudyInstanceUID": uid("two.2"), "InstanceNumber": "4"}, {"7"}),
        ("IMAGE", {"StudyInstanceUID": uid("two.2"), "SOPClassUID": str(CTImageStorage)}, set()),
    ],
)
def test_matching_below_the_study(archive, level, keys, images):
    found = find(archive, level, {"SeriesNumber": "", **keys})

    assert {str(match.SeriesNumber) for match in found.matches} == images


# ----------------------------------------------------------------------------------------------------------- answers


def test_counts_of_a_patient(archive):
    names = ("Studies", "Series", "Instances")
    keys = {f"NumberOfPatientRelated{name}": "" for name in names}

    (match,) = find(archive, "PATIENT", {"PatientID": "TWO", **keys}, model=PATIENT_ROOT).matches

    assert [int(match[keyword].value) for keyword in keys] == [2, 3, 3]


def test_counts_and_modalities_of_studies_and_series(archive):
    names = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "ModalitiesInStudy", "SOPClassesInStudy")
    keys = dict.fromkeys(names, "")

    (study,) = find(archive, "STUDY", {"StudyInstanceUID": uid("utf8"), **keys}).matches
    (series,) = find(
        archive, "SERIES", {"SeriesInstanceUID": uid("utf8", "2"), "NumberOfSeriesRelatedInstances": ""}
    ).matches

    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 4)
    assert sorted(study.ModalitiesInStudy) == ["CT", "OT"]
    assert len(study.SOPClassesInStudy) == 2
    assert series.NumberOfSeriesRelatedInstances == 3


def test_modalities_as_a_key_are_all_returned(archive):
    (match,) = find(archive, "STUDY", {"ModalitiesInStudy": "CR"}).matches

    assert sorted(match.ModalitiesInStudy) == ["CR", "DX"]


def test_unique_keys_and_retrieve_ae_title_are_always_there(archive):
    found = find(archive, "IMAGE", {"StudyInstanceUID": uid("two.1"), "InstanceNumber": ""}, model=PATIENT_ROOT)

    (match,) = found.matches
    assert match.PatientID == "TWO"
    assert match.StudyInstanceUID == uid("two.1")
    assert match.SeriesInstanceUID == uid("two.1", "1")
    assert match.SOPInstanceUID
    assert match.RetrieveAETitle == "BACKUP_SCP"


def test_supported_keys_answer_ff00(archive):
    found = find(archive, "STUDY", {"PatientID": "LATIN", "StudyDescription": "", "InstanceAvailability": ""})

    assert found.pending == (0xFF00,)
    assert found.matches[0].StudyDescription == "Chest"
    assert found.matches[0].InstanceAvailability == "ONLINE"


def test_an_unsupported_key_answers_ff01_and_is_there_empty(archive):
    found = find(archive, "STUDY", {"PatientID": "LATIN", "MilitaryRank": ""})

    assert found.pending == (0xFF01,)
    assert "MilitaryRank" in found.matches[0]
    assert not found.matches[0].MilitaryRank
    assert found.matches[0].PatientID == "LATIN"


def test_a_value_of_an_unsupported_key_does_not_narrow(archive):
    found = find(archive, "STUDY", {"PatientID": "LATIN", "MilitaryRank": "General"})

    assert (found.pending, found.status) == ((0xFF01,), 0)
    assert not found.matches[0].MilitaryRank


def test_a_key_below_the_level_answers_ff01(archive):
    found = find(archive, "STUDY", {"PatientID": "UTF8", "SeriesNumber": ""})

    assert found.pending == (0xFF01,)
    assert found.matches[0]["SeriesNumber"].is_empty


def test_nothing_found_is_success_without_matches(archive):
    found = find(archive, "STUDY", {"PatientID": "nobody"})

    assert (found.status, found.pending) == (0, ())


# ----------------------------------------------------------------------------------------------------- character sets


@pytest.mark.parametrize(
    ("patient_id", "name"),
    [
        ("LATIN", "Müller^Jörg"),
        ("UTF8", "Wang^XiaoDong=王^小东"),
        ("JAPAN", JAPANESE_NAME),
        ("TWO", "Two^Studies"),
    ],
)
@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_names_come_back_as_written_to_one_who_asks_in_ascii(archive, level, patient_id, name):
    found = find(archive, level, {"PatientID": patient_id, "PatientName": ""}, model=PATIENT_ROOT)

    assert {str(match.PatientName) for match in found.matches} == {name}
    assert all(("SpecificCharacterSet" in match) == (not name.isascii()) for match in found.matches)


def test_findscu_reads_names_by_the_declared_character_set(archive):
    answers = peers.findscu(archive, "PATIENT", {"PatientID": "", "PatientName": ""}, model=peers.PATIENT_ROOT)

    names = {answer.PatientID: str(answer.PatientName) for answer in answers}
    assert names["LATIN"] == "Müller^Jörg"
    assert names["UTF8"] == "Wang^XiaoDong=王^小东"
    assert names["JAPAN"] == JAPANESE_NAME
    assert not any("SpecificCharacterSet" in answer for answer in answers if str(answer.PatientName).isascii())


@pytest.mark.parametrize(
    ("character_set", "asked", "patients"),
    [
        ("ISO_IR 100", "Müller^Jörg", ["LATIN"]),
        ("ISO_IR 100", "Mül*", ["LATIN"]),
        ("ISO_IR 192", "müller*", ["LATIN"]),
        ("ISO_IR 192", "*=王*", ["UTF8"]),
        ("ISO_IR 192", "*宮本*", ["JAPAN"]),
        (["", "ISO 2022 IR 87"], "*=山本*", []),
        (["", "ISO 2022 IR 87"], "*=宮本*", ["JAPAN"]),
    ],
    ids=str,
)
def test_keys_are_read_by_the_requesters_character_set(archive, character_set, asked, patients):
    keys = {"SpecificCharacterSet": character_set, "PatientName": asked, "PatientID": ""}

    assert find(archive, "STUDY", keys).values("PatientID") == patients


def test_the_requesters_character_set_is_used_where_it_can_hold_the_answer(archive):
    keys = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "", "PatientID": ""}

    matches = {match.PatientID: match for match in find(archive, "STUDY", keys).matches}

    assert matches["LATIN"].SpecificCharacterSet == "ISO_IR 100"
    assert matches["UTF8"].SpecificCharacterSet == "ISO_IR 192"
    assert str(matches["LATIN"].PatientName) == "Müller^Jörg"
    assert str(matches["UTF8"].PatientName) == "Wang^XiaoDong=王^小东"


# ------------------------------------------------------------------------------------------------------------ C-CANCEL


def encoded(level: str, keys: dict) -> bytes:
    """Encode an Identifier in Implicit VR Little Endian."""
    written = DicomBytesIO()
    written.is_little_endian = written.is_implicit_VR = True
    write_dataset(written, identifier(level, keys))
    return written.getvalue()


def test_cancelled_before_the_first_answer(archive):
    """The C-CANCEL is there before the node can answer: a look at the network between answers must find it."""
    contexts = [(STUDY_ROOT + FIND, [ImplicitVRLittleEndian])]

    with raw_sender.Association(archive, contexts) as association:
        cancelled = association.find(STUDY_ROOT + FIND, encoded("IMAGE", {"SOPInstanceUID": ""}), cancel=True)
        again = association.find(STUDY_ROOT + FIND, encoded("IMAGE", {"SOPInstanceUID": ""}))

    assert cancelled[-1].status == 0xFE00
    assert len(cancelled) < len(again)
    assert again[-1].status == 0
    assert len(again) == len(held()) + 1


def test_findscu_cancels(archive):
    """Few answers may be out before the C-CANCEL is in: either way the node ends the operation in order."""
    arguments = ["-S", "--cancel", "1", "-k", "QueryRetrieveLevel=IMAGE", "-k", "SOPInstanceUID"]

    done = peers.dcmtk("findscu", "-d", *arguments, "-aec", archive.ae_title, archive.host, str(archive.port))

    assert peers.final_status(done.stdout) in {0xFE00, 0x0000}
    assert "Releasing Association" in done.stdout
    assert archive.echo()


# ------------------------------------------------------------------------------------------------------ beyond the wire


def test_what_arrives_is_found_at_once_and_after_a_restart(node):
    sample = encode(dx(PatientID="NEW"))
    assert find(node, "STUDY", {"PatientID": "NEW"}).matches == ()

    node.send([sample])
    before = find(node, "STUDY", {"PatientID": "NEW", "StudyInstanceUID": "", "PatientName": ""})
    node.restart()
    after = find(node, "STUDY", {"PatientID": "NEW", "StudyInstanceUID": "", "PatientName": ""})

    assert len(before.matches) == 1
    assert before == after


def test_an_instance_under_two_studies_is_found_in_both(node):
    """One SOP Instance UID in two studies is two instances; neither hides the other."""
    one, other = dx(study="one"), dx(study="other")
    other.SOPInstanceUID = one.SOPInstanceUID

    node.send([encode(one), encode(other)])

    found = find(node, "IMAGE", {"SOPInstanceUID": one.SOPInstanceUID, "StudyInstanceUID": ""})
    assert found.values("StudyInstanceUID") == sorted([uid("one"), uid("other")])


def test_the_same_patient_id_in_two_people_is_not_merged(node):
    somebody = dx(study="1", PatientID="P", PatientName="Somebody^Here")
    another = dx(study="2", PatientID="P", PatientName="Another^There")

    node.send([encode(somebody), encode(another)])

    found = find(node, "STUDY", {"PatientID": "P", "PatientName": ""})
    assert found.values("PatientName") == ["Another^There", "Somebody^Here"]


def test_a_data_set_that_cannot_be_parsed_is_found_by_its_uid(node):
    sample = dataclasses.replace(encode(dx()), data_set=b"\xff" * 512)

    assert [answer.status for answer in node.send([sample])] == [0]

    found = find(node, "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid, "SOPClassUID": ""})
    assert found.values("SOPInstanceUID") == [sample.sop_instance_uid]
    assert found.values("SOPClassUID") == [sample.sop_class_uid]


def test_no_name_or_id_of_a_patient_is_logged(make_node):
    node = make_node(settings={"log": {"level": "DEBUG"}})
    node.start()
    node.send([encode(dx(PatientID="SECRET-ID", PatientName="Secret^Name"))])

    find(node, "STUDY", {"PatientID": "SECRET-ID", "PatientName": "Secret*"})
    find(node, "NONSENSE", {"PatientID": "SECRET-ID", "PatientName": "Secret*"})
    find(node, "", {"PatientID": "SECRET-ID", "PatientName": "Secret*"})

    assert "secret" not in node.output.lower()


def test_orthanc_queries_and_retrieves(make_node, start_orthanc):
    """Orthanc asks as a viewer does, level by level, and lets the node send what it found."""
    orthanc = start_orthanc()
    node = make_node(remotes=[orthanc.remote])
    node.start()
    orthanc.add_modality(node.remote)
    mine, other = [encode(ds) for ds in one_of_each("1")], [encode(dx(study="2", PatientID="PID2"))]
    node.send([*mine, *other])

    query, studies = orthanc.find("backup_scp", "Study", {"PatientID": "PID1", "ModalitiesInStudy": ""})
    _, series = orthanc.find("backup_scp", "Series", {"StudyInstanceUID": uid("1"), "Modality": ""})
    _, patients = orthanc.find("backup_scp", "Patient", {"PatientID": "*"})
    orthanc.retrieve(query)

    assert [answer["StudyInstanceUID"] for answer in studies] == [uid("1")]
    assert sorted(answer["Modality"] for answer in series) == ["CT", "DOC", "DX", "OT", "PR", "SR"]
    assert sorted(answer["PatientID"] for answer in patients) == ["PID1", "PID2"]
    assert orthanc.data_sets() == sorted(sample.data_set for sample in mine)
