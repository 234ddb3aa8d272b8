"""Identifiers that the node encodes for C-FIND and retrieves, decoded with pydicom (PS3.4 C.4.1.1.3, PS3.5 7)."""

from __future__ import annotations

import io
import struct
import warnings

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID

from backup_scp.dicom.attributes import BY_KEYWORD
from backup_scp.dicom.query.identifier import Identifier
from backup_scp.dicom.query.information_model import MODELS
from backup_scp.dicom.value_representation import items_text
from backup_scp.dimse.messages.response_identifier import AnswerEncoder, encode_elements, encode_failed_list
from backup_scp.errors import InvalidIdentifier
from tests.dimse.wire import BIG_ENDIAN, EXPLICIT, IMPLICIT, STUDY_ROOT_FIND
from tests.dimse.wire import encoded as encoded_by_pydicom

SYNTAXES = [IMPLICIT, EXPLICIT, BIG_ENDIAN]
KEYS = tuple(key.keyword for key in BY_KEYWORD["RequestAttributesSequence"].items)
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"


def read(encoded: bytes, syntax: str) -> Dataset:
    """Decode with pydicom, strictly."""
    uid = UID(syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = pydicom.filereader.read_dataset(io.BytesIO(encoded), uid.is_implicit_VR, uid.is_little_endian)
        ds = Dataset(ds)
        for element in ds:
            str(element.value)
    assert encoded_by_pydicom(ds, syntax) == encoded  # nothing lost, nothing padded wrongly, ascending
    return ds


def request(syntax: str, level: str = "STUDY", **keys: object) -> Identifier:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return Identifier.read(encoded_by_pydicom(ds, syntax), syntax)


def answer(identifier: Identifier, match: dict[str, str], syntax: str, model: str = STUDY_ROOT_FIND) -> Dataset:
    return read(AnswerEncoder(identifier, MODELS[model], syntax, "BACKUP_SCP").encode(match), syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_answer_has_every_key_asked_for_and_no_other(syntax):
    identifier = request(syntax, PatientName="", StudyDate="", StudyInstanceUID="", PatientComments="", Rows=None)
    found = answer(identifier, {"PatientName": "Doe^John", "StudyInstanceUID": "1.2.3", "StudyTime": "1015"}, syntax)
    assert {element.keyword: str(element.value or "") for element in found} == {
        "StudyDate": "",
        "QueryRetrieveLevel": "STUDY",
        "RetrieveAETitle": "BACKUP_SCP",
        "PatientName": "Doe^John",
        "PatientComments": "",
        "StudyInstanceUID": "1.2.3",
        "Rows": "",
    }


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_unique_keys_are_answered_though_not_asked_for(syntax):
    identifier = request(syntax, "SERIES", Modality="")
    found = answer(identifier, {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "Modality": "DX"}, syntax)
    assert (found.StudyInstanceUID, found.SeriesInstanceUID, found.Modality) == ("1.2", "1.3", "DX")


def test_the_patient_s_key_is_one_in_patient_root_only():
    match = {"PatientID": "P1", "StudyInstanceUID": "1.2"}
    assert "PatientID" not in answer(request(EXPLICIT, StudyDate=""), match, EXPLICIT)
    assert answer(request(EXPLICIT, StudyDate=""), match, EXPLICIT, PATIENT_ROOT_FIND).PatientID == "P1"


def test_availability_when_asked_for():
    assert "InstanceAvailability" not in answer(request(EXPLICIT, StudyDate=""), {}, EXPLICIT)
    assert answer(request(EXPLICIT, InstanceAvailability=""), {}, EXPLICIT).InstanceAvailability == "ONLINE"


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("asked", "name", "written"),
    [
        (None, "Doe^John", None),
        ("ISO_IR 100", "Doe^John", None),
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        (None, "Müller^Jörg", "ISO_IR 192"),
        ("ISO_IR 100", "Иванов^Пётр", "ISO_IR 192"),
        ("ISO_IR 144", "Иванов^Пётр", "ISO_IR 144"),
        ("ISO_IR 192", "山田^太郎=やまだ^たろう", "ISO_IR 192"),
        ("GB18030", "予^宮", "GB18030"),
    ],
)
def test_specific_character_set_is_true_for_the_answer(syntax, asked, name, written):
    keys = {"SpecificCharacterSet": asked} if asked else {}
    found = answer(request(syntax, PatientName="", StudyDescription="", **keys), {"PatientName": name}, syntax)
    assert found.get("SpecificCharacterSet") == written
    if written != "GB18030":  # pydicom splits before it decodes (traps.md 9)
        assert str(found.PatientName) == name


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_umlaut_where_only_ascii_may_stand_does_not_lose_the_answer(syntax):
    """A sender wrote it nevertheless, into a code string; the other values keep their character set."""
    identifier = request(syntax, "SERIES", BodyPartExamined="", PatientName="", SeriesInstanceUID="")
    for name, character_set in (("Doe^John", ""), ("Müller^Jörg", "ISO_IR 192")):
        found = answer(identifier, {"BodyPartExamined": "SCHÄDEL", "PatientName": name}, syntax)
        assert found.BodyPartExamined == "SCH?DEL"
        assert found.PatientName == name
        assert found.get("SpecificCharacterSet", "") == character_set


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_several_values_and_odd_lengths(syntax):
    identifier = request(syntax, ModalitiesInStudy="", SOPClassesInStudy="", NumberOfStudyRelatedInstances="")
    match = {
        "ModalitiesInStudy": "CR\\DX\\PR",
        "SOPClassesInStudy": "1.2.3\\1.2.345",
        "NumberOfStudyRelatedInstances": "7",
    }
    found = answer(identifier, match, syntax)
    assert found.ModalitiesInStudy == ["CR", "DX", "PR"]
    assert found.SOPClassesInStudy == ["1.2.3", "1.2.345"]
    assert found.NumberOfStudyRelatedInstances == 7


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_long_vrs_and_sequences_come_back_empty(syntax):
    ds = Dataset()
    ds.ReferencedStudySequence = []
    ds.TextValue = ""
    ds.add_new(0x00420011, "OB", None)
    ds.add_new(0x00091001, "UN", b"")
    ds.add_new(0x0040A030, "SQ", [])
    ds.QueryRetrieveLevel = "STUDY"
    found = answer(Identifier.read(encoded_by_pydicom(ds, syntax), syntax), {}, syntax)
    assert {0x00081110, 0x0040A160, 0x00420011, 0x00091001, 0x0040A030} <= {int(element.tag) for element in found}
    assert not found.ReferencedStudySequence


REQUESTS = [
    {"RequestedProcedureID": "RP1", "ScheduledProcedureStepDescription": "Röntgen"},
    {"AccessionNumber": "A1"},
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([{"RequestedProcedureID": "RP*"}], [{"RequestedProcedureID": "RP1"}, {"RequestedProcedureID": ""}]),
        ([{"RequestedProcedureID": "", "ReasonForTheRequestedProcedure": ""}],
         [{"ReasonForTheRequestedProcedure": "", "RequestedProcedureID": "RP1"},
          {"ReasonForTheRequestedProcedure": "", "RequestedProcedureID": ""}]),
        ([], [dict.fromkeys(KEYS, "") | request for request in REQUESTS]),
        ([{}], [dict.fromkeys(KEYS, "") | request for request in REQUESTS]),
    ],
)  # fmt: skip
def test_items_have_the_keys_asked_for(syntax, asked, answered):
    items = [Dataset() for _ in asked]
    for item, keys in zip(items, asked, strict=True):
        for keyword, value in keys.items():
            setattr(item, keyword, value)
    identifier = request(syntax, "SERIES", RequestAttributesSequence=items, Modality="")
    match = {"RequestAttributesSequence": items_text(REQUESTS), "Modality": "DX"}
    found = answer(identifier, match, syntax)
    told = [{each.keyword: str(each.value or "") for each in item} for item in found.RequestAttributesSequence]
    assert told == answered
    assert found.get("SpecificCharacterSet") == ("ISO_IR 192" if "Röntgen" in str(answered) else None)
    assert found.Modality == "DX"
    assert len(answer(identifier, {}, syntax).RequestAttributesSequence) == 0


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_binary_numbers_follow_the_byte_order(syntax):
    vrs = {attribute.vr for attribute in BY_KEYWORD.values()}
    encoder = AnswerEncoder(request(syntax, StudyDate=""), MODELS[STUDY_ROOT_FIND], syntax, "X")._numbers
    order = ">" if syntax == BIG_ENDIAN else "<"
    assert encoder("US", "512\\3") == struct.pack(f"{order}HH", 512, 3)
    assert encoder("SS", "-2") == struct.pack(f"{order}h", -2)
    assert encoder("US", "") == b""
    assert not vrs & {"UL", "SL", "FL", "FD", "AT", "OB", "OW"}, "write these, too"


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\^="), max_size=40).map(str.strip)


@given(TEXT, TEXT, st.sampled_from(SYNTAXES), st.sampled_from(["", "ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 87"]))
def test_any_text_is_read_back_as_it_was(name, description, syntax, character_set):
    keys = {"SpecificCharacterSet": character_set} if character_set else {}
    identifier = request(syntax, PatientName="", StudyDescription="", **keys)
    encoder = AnswerEncoder(identifier, MODELS[STUDY_ROOT_FIND], syntax, "X")
    encoded = encoder.encode({"PatientName": name, "StudyDescription": description})
    uid = UID(syntax)
    found = pydicom.filereader.read_dataset(io.BytesIO(encoded), uid.is_implicit_VR, uid.is_little_endian)
    assert [int(element.tag) for element in found] == sorted(int(element.tag) for element in found)
    if str(found.get("SpecificCharacterSet") or "") in {"", "ISO_IR 192", "ISO_IR 100"}:  # it may have several
        assert str(found.PatientName).strip() == name
        assert (found.StudyDescription or "").strip() == description


@given(st.binary(max_size=300), st.sampled_from(SYNTAXES))
def test_an_answer_to_any_identifier_that_can_be_read(encoded, syntax):
    level = encode_elements([(0x00080052, "CS", b"STUDY ")], syntax)
    try:
        identifier = Identifier.read(level + encoded, syntax)
    except InvalidIdentifier:
        return
    encoded_answer = AnswerEncoder(identifier, MODELS[STUDY_ROOT_FIND], syntax, "X").encode({"StudyInstanceUID": "1.2"})
    assert read(encoded_answer, syntax).QueryRetrieveLevel == "STUDY"


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("vr", [b"\xff\xff", b"??", b"  ", b"\0\0", b"SQ", b"UN", b"OB"])
def test_a_key_with_an_odd_vr(syntax, vr):
    order = ">" if syntax == BIG_ENDIAN else "<"
    tail = struct.pack(f"{order}HI", 0, 0) if vr in {b"SQ", b"UN", b"OB"} else struct.pack(f"{order}H", 0)
    level = encode_elements([(0x00080052, "CS", b"STUDY ")], syntax)
    key = struct.pack(f"{order}HH", 0x0009, 0x1001) + vr + tail
    try:
        identifier = Identifier.read(level + key, syntax)
    except InvalidIdentifier:
        return
    encoded_answer = AnswerEncoder(identifier, MODELS[STUDY_ROOT_FIND], syntax, "X").encode({"StudyInstanceUID": "1.2"})
    assert read(encoded_answer, syntax).QueryRetrieveLevel == "STUDY"


# --------------------------------------------------------------------------------------------------- failed list


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("uids", [["1.2.3"], ["1.2.3", "1.2.34"], ["1." + "2" * 60] * 3])
def test_the_failed_list(syntax, uids):
    found = read(encode_failed_list(uids, syntax), syntax)
    value = found.FailedSOPInstanceUIDList
    assert ([value] if isinstance(value, str) else list(value)) == uids


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("length", [0xFFFD, 0xFFFE, 0xFFFF, 1 << 20])
def test_a_long_failed_list_is_complete(syntax, length):
    """What a UI of Explicit VR cannot hold is written as UN (PS3.5 6.2.2)."""
    text = ("1.2.345.6\\" * (length // 10 + 1))[: length - 1] + "1"
    element = read(encode_failed_list(text.split("\\"), syntax), syntax)[0x00080058]
    as_un = syntax != IMPLICIT and length > 0xFFFE
    assert as_un == (element.VR == "UN")
    value = element.value.rstrip(b"\0").decode() if as_un else "\\".join(element.value)
    assert value == text
