"""Request Attributes Sequence as a key (PS3.4 C.2.2.2.6), and every key that viewers send, from real clients."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.samples import dx, encode, uid
from tests.system import peers
from tests.system.node import Node
from tests.system.pynetdicom_peers import PATIENT_ROOT, find


def item(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


REQUESTS = {
    "1": [item(RequestedProcedureID="RP1", AccessionNumber="A1"), item(RequestedProcedureID="RP2")],
    "2": [item(RequestedProcedureID="XX3", RequestedProcedureDescription="Röntgen", StudyInstanceUID=uid("1"))],
    "3": [],
}

# Every key that viewers send, and where it belongs (PS3.4 Tables C.6-1 to C.6-5, C.3-1).
KEYS: dict[str, dict[str, Any]] = {
    "PATIENT": {
        "PatientID": "KEYS",
        "PatientName": "Doe^Jane",
        "IssuerOfPatientID": "CLINIC",
        "PatientBirthDate": "19700501",
        "PatientSex": "F",
        "OtherPatientIDs": "OTHER",
        "NumberOfPatientRelatedStudies": "1",
        "NumberOfPatientRelatedSeries": "1",
        "NumberOfPatientRelatedInstances": "1",
    },
    "STUDY": {
        "StudyInstanceUID": uid("keys"),
        "StudyDate": "20240131",
        "StudyTime": "101500",
        "AccessionNumber": "ACCkeys",
        "StudyID": "Skeys",
        "StudyDescription": "Chest",
        "ReferringPhysicianName": "Referring^Rita",
        "PatientAge": "053Y",
        "ModalitiesInStudy": "DX",
        "SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.1.1",
        "NumberOfStudyRelatedSeries": "1",
        "NumberOfStudyRelatedInstances": "1",
    },
    "SERIES": {
        "SeriesInstanceUID": uid("keys", "1"),
        "Modality": "DX",
        "SeriesNumber": "1",
        "SeriesDescription": "PA",
        "InstitutionName": "Clinic",
        "StationName": "DR1",
        "BodyPartExamined": "CHEST",
        "Laterality": "U",
        "ProtocolName": "Thorax",
        "PerformedProcedureStepStartDate": "20240131",
        "PerformedProcedureStepStartTime": "101000",
        "Manufacturer": "Maker",
        "OperatorsName": "Op^Erator",
        "NumberOfSeriesRelatedInstances": "1",
    },
    "IMAGE": {
        "SOPInstanceUID": uid("keys", "1", 1, "1.2.840.10008.5.1.4.1.1.1.1"),
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
        "InstanceNumber": "1",
        "ViewPosition": "PA",
        "Rows": 32,
        "Columns": 32,
        "NumberOfFrames": "1",
        "ContentDate": "20240131",
        "ContentTime": "101500",
        "AcquisitionDate": "20240131",
        "AcquisitionTime": "101200",
    },
}
NOT_MATCHED = {"TimezoneOffsetFromUTC": "+0100", "InstanceAvailability": "ONLINE", "RetrieveAETitle": "BACKUP_SCP"}
COMPUTED = {"ModalitiesInStudy", "SOPClassesInStudy"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("keys") / "node")
    node.start()
    stored = {k: v for keys in KEYS.values() for k, v in keys.items() if "Related" not in k and k not in COMPUTED}
    stored |= {"TimezoneOffsetFromUTC": "+0100", "study": "keys"}
    for unique in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Rows", "Columns"):
        del stored[unique]
    samples = [encode(dx(**stored))]
    for series, (requests, syntax) in enumerate(
        zip(REQUESTS.values(), (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian), strict=True), 1
    ):
        ds = dx(study="requests", series=str(series), SpecificCharacterSet="ISO_IR 100")
        ds.RequestAttributesSequence = requests
        samples.append(encode(ds, syntax))
    assert {answer.status for answer in node.send(samples)} == {0}
    yield node
    node.close()


def in_requests(keys: dict[str, str]) -> dict[str, str]:
    return {f"RequestAttributesSequence[0].{keyword}": value for keyword, value in keys.items()}


@pytest.mark.parametrize(
    ("keys", "series"),
    [
        ({"RequestedProcedureID": "RP*"}, {"1": ["RP1", "RP2"]}),
        ({"RequestedProcedureID": "RP*", "AccessionNumber": "A1"}, {"1": ["RP1"]}),
        ({"RequestedProcedureID": "RP2", "AccessionNumber": "A1"}, {}),
        ({"RequestedProcedureID": "", "StudyInstanceUID": uid("1")}, {"2": ["XX3"]}),
        ({"RequestedProcedureID": ""}, {"1": ["RP1", "RP2"], "2": ["XX3"], "3": []}),
    ],
)
@pytest.mark.parametrize("options", [("-xi",), ("-xe",), ("-xb",)])
def test_findscu(archive, keys, series, options):
    wanted = {"StudyInstanceUID": uid("requests"), "SeriesNumber": "", **in_requests(keys)}

    answers = peers.findscu(archive, "SERIES", wanted, options=options)

    found = {
        str(answer.SeriesNumber): [each.RequestedProcedureID for each in answer.RequestAttributesSequence]
        for answer in answers
    }
    assert found == series
    assert all({e.keyword for e in each} == set(keys) for a in answers for each in a.RequestAttributesSequence)


def test_the_whole_sequence_in_a_character_set_that_is_true(archive):
    wanted = {"StudyInstanceUID": uid("requests"), "SeriesNumber": "2", "RequestAttributesSequence": []}

    found = find(archive, "SERIES", wanted)

    (request,) = found.matches[0].RequestAttributesSequence
    assert found.pending == (0xFF00,)
    assert (request.RequestedProcedureID, request.RequestedProcedureDescription) == ("XX3", "Röntgen")
    assert request.ScheduledProcedureStepID == ""


def test_what_a_sequence_cannot_say(archive):
    study = {"StudyInstanceUID": uid("requests"), "SeriesNumber": "1"}

    unknown = find(archive, "SERIES", {**study, "RequestAttributesSequence": [item(ReasonForTheRequestedProcedure="")]})
    two = find(archive, "SERIES", {**study, "RequestAttributesSequence": [item(AccessionNumber=n) for n in "12"]})
    other = find(archive, "SERIES", {**study, "ReferencedStudySequence": [item(ReferencedSOPInstanceUID="1")]})

    assert (unknown.pending, unknown.status) == ((0xFF01,), 0)
    assert [each.ReasonForTheRequestedProcedure for each in unknown.matches[0].RequestAttributesSequence] == ["", ""]
    assert (two.pending, two.status) == ((), 0xA900)
    assert "RequestAttributesSequence (0040,0275)" in two.error_comment
    assert (other.pending, len(other.matches[0].ReferencedStudySequence)) == ((0xFF01,), 0)


@pytest.mark.parametrize("level", KEYS)
def test_every_key_is_matched_and_returned_at_its_level_and_below(archive, level):
    levels = list(KEYS)
    keys = {k: v for each in levels[: levels.index(level) + 1] for k, v in KEYS[each].items()}
    asked = {**keys, **NOT_MATCHED} if level != "PATIENT" else keys
    everything = {keyword: [] if isinstance(value, int) else "" for keyword, value in asked.items()}

    found = find(archive, level, {**everything, "PatientID": "KEYS"}, model=PATIENT_ROOT)

    assert found.pending == (0xFF00,)
    assert {keyword: str(found.matches[0][keyword].value) for keyword in asked} == {k: str(v) for k, v in asked.items()}
    every = find(archive, level, keys, model=PATIENT_ROOT)
    assert len(every.matches) == 1
    for keyword, value in keys.items():
        other = 31 if isinstance(value, int) else "19000101" if keyword.endswith("Date") else "9"
        assert find(archive, level, {**keys, keyword: other}, model=PATIENT_ROOT).matches == (), keyword
