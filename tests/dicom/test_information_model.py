"""Identifiers are turned into queries; table-driven."""

from __future__ import annotations

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, BY_TAG, Level
from backup_scp.dicom.query.conditions import (
    AllOf,
    DateTimeRange,
    Empty,
    FuzzyName,
    Range,
    SingleValue,
    UIDList,
    WildCard,
    matching_of,
    normalise,
)
from backup_scp.dicom.query.identifier import IDENTIFIER_BYTES
from backup_scp.dicom.query.information_model import (
    MODELS,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    Identifier,
    Negotiated,
    RequestedKey,
    read_query,
    read_retrieve,
    unsupported_keys,
)
from backup_scp.errors import InvalidIdentifier
from tests.elements import element, patient

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def data_set(**values) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        ds.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))
    return ds


def encoded(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    written = DicomBytesIO()
    written.is_little_endian = syntax != ExplicitVRBigEndian
    written.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(written, ds)
    data = written.getvalue()
    if syntax != DeflatedExplicitVRLittleEndian:
        return data
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def wire(level: str | None = "STUDY", syntax: str = ExplicitVRLittleEndian, **keys) -> Identifier:
    """An Identifier as it comes over the network."""
    return Identifier.read(encoded(data_set(QueryRetrieveLevel=level, **keys), syntax), syntax)


def asked(level: Level = Level.STUDY, **values: str) -> Identifier:
    """An Identifier as it is after reading."""
    keys = ((BY_KEYWORD[keyword], value) for keyword, value in values.items())
    return Identifier(level, tuple(RequestedKey(a.tag, a.vr, value) for a, value in keys))


def conditions(query) -> dict:
    return {condition.attribute.keyword: condition.matching for condition in query.conditions}


# The Identifier.


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_identifier_keeps_every_key_in_its_order(syntax):
    ds = data_set(SpecificCharacterSet="ISO_IR 100", QueryRetrieveLevel="SERIES", Rows=512)
    ds.update(data_set(PatientName="Müller*", SeriesInstanceUID="1.2\\1.3", Modality=""))
    ds.RequestAttributesSequence = [data_set(ScheduledProcedureStepID="")]
    ds.add_new(0x00181000, "LO", "")
    identifier = Identifier.read(encoded(ds, syntax), syntax)
    assert identifier.level is Level.SERIES
    assert identifier.specific_character_set.value == "ISO_IR 100"
    assert [(k.tag, k.vr, k.value) for k in identifier.keys] == [
        (0x00080060, "CS", ""),
        (0x00100010, "PN", "Müller*"),
        (0x00181000, "LO", ""),
        (0x0020000E, "UI", "1.2\\1.3"),
        (0x00280010, "US", "512"),
        (0x00400275, "SQ", ""),
    ]
    assert [(k.tag, k.vr) for k in identifier.keys[-1].items] == [(0x00400009, "SH")]


def test_what_a_sequence_holds_that_is_not_in_the_table_is_not_kept():
    ds = data_set(QueryRetrieveLevel="STUDY")
    ds.ReferencedStudySequence = [data_set(PatientName="Doe^John")]
    assert "Doe" not in repr(Identifier.read(encoded(ds), ExplicitVRLittleEndian))


def requests(level="SERIES", *, syntax=ExplicitVRLittleEndian, items: list[Dataset], **keys) -> Identifier:
    """An Identifier with item keys of Request Attributes Sequence."""
    ds = data_set(QueryRetrieveLevel=level, **keys)
    ds.RequestAttributesSequence = items
    return Identifier.read(encoded(ds, syntax), syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_sequence_matching(syntax):
    keys = {"RequestedProcedureID": "RP*", "AccessionNumber": "A1", "ScheduledProcedureStepID": ""}
    query = read_query(requests(syntax=syntax, items=[data_set(**keys)]), STUDY_ROOT)
    ((keyword, matching),) = conditions(query).items()
    assert keyword == "RequestAttributesSequence"
    assert {c.attribute.keyword: c.matching for c in matching.conditions} == {
        "AccessionNumber": SingleValue("A1"),
        "RequestedProcedureID": WildCard("RP*"),
    }
    assert [a.keyword for a in query.return_keys] == ["RequestAttributesSequence"]


@pytest.mark.parametrize(
    "items", [[], [data_set()], [data_set(RequestedProcedureID="", StudyInstanceUID="*")], [data_set(PatientID="1")]]
)
def test_a_sequence_without_a_value_is_universal(items):
    query = read_query(requests(items=items), STUDY_ROOT)
    assert conditions(query) == {}
    assert [a.keyword for a in query.return_keys] == ["RequestAttributesSequence"]


def test_item_keys_nobody_answers_are_unsupported():
    items = [data_set(RequestedProcedureID="", ReasonForTheRequestedProcedure="x")]
    items[0].RequestedProcedureCodeSequence = [data_set(CodeValue="1")]
    assert [k.tag for k in unsupported_keys(requests(items=items), STUDY_ROOT)] == [0x00321064, 0x00401002]
    assert [k.tag for k in unsupported_keys(requests("STUDY", items=items), STUDY_ROOT)] == [0x00400275]
    assert unsupported_keys(requests(items=[data_set(AccessionNumber="1")]), STUDY_ROOT) == ()


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_a_sequence_as_a_key_has_one_item(level):
    with pytest.raises(InvalidIdentifier, match=r"RequestAttributesSequence \(0040,0275\) has more than one item"):
        requests(level, items=[data_set(AccessionNumber="1"), data_set(AccessionNumber="2")])


def test_a_sequence_that_cannot_be_read_is_refused():
    data = element(0x00080052, "CS", b"SERIES") + element(0x00400275, "SQ", patient())
    with pytest.raises(InvalidIdentifier, match=r"RequestAttributesSequence \(0040,0275\) cannot be read"):
        Identifier.read(data, ExplicitVRLittleEndian)


def test_an_item_has_the_character_set_that_it_declares():
    keys = {"RequestedProcedureDescription": "Röntgen"}
    items = [data_set(SpecificCharacterSet="ISO_IR 192", **keys)]
    for item in (items, [data_set(**keys)]):
        identifier = requests(items=item, SpecificCharacterSet="ISO_IR 100")
        assert [(k.tag, k.value) for k in identifier.keys[-1].items] == [(0x00321060, "Röntgen")]


def test_empty_and_several_values_in_an_item():
    items = [data_set(RequestedProcedureID='""', StudyInstanceUID="1.2\\1.3")]
    negotiated = Negotiated(empty_values=True, multiple_values=True)
    matching = conditions(read_query(requests(items=items), STUDY_ROOT, negotiated))["RequestAttributesSequence"]
    assert [c.matching for c in matching.conditions] == [UIDList(("1.2", "1.3")), Empty()]


def test_group_lengths_are_no_keys():
    data = element(0x00080000, "UL", b"\x0c\0\0\0") + element(0x00080052, "CS", b"STUDY ")
    data += element(0x00100000, "UL", b"\x08\0\0\0") + element(0x00100020, "LO")
    identifier = Identifier.read(data, ExplicitVRLittleEndian)
    assert [key.tag for key in identifier.keys] == [0x00100020]


@pytest.mark.parametrize("written", ["STUDY", "study ", " Study"])
def test_the_level_is_read_leniently(written):
    assert wire(written).level is Level.STUDY


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "missing"),
        (encoded(data_set(PatientID="4711")), "missing"),
        (encoded(data_set(QueryRetrieveLevel="")), "missing"),
        (encoded(data_set(QueryRetrieveLevel="DOE^JOHN")), "none of PATIENT, STUDY, SERIES, IMAGE"),
        (encoded(data_set(QueryRetrieveLevel="STUDY"))[:-1], "cannot be read"),
        (bytes(IDENTIFIER_BYTES + 1), "longer than"),
    ],
)
def test_what_is_no_identifier(data, why):
    with pytest.raises(InvalidIdentifier, match=why) as error:
        Identifier.read(data, ExplicitVRLittleEndian)
    assert "DOE" not in str(error.value)


def test_a_long_list_of_uids_is_not_cut():
    uids = [f"1.2.840.10008.{number}" for number in range(2000)]
    query = read_retrieve(wire("IMAGE", SOPInstanceUID="\\".join(uids)), STUDY_ROOT)
    assert conditions(query) == {"SOPInstanceUID": UIDList(tuple(uids))}


# The models.


def test_models_by_sop_class():
    assert MODELS["1.2.840.10008.5.1.4.1.2.1.1"] is PATIENT_ROOT
    assert MODELS["1.2.840.10008.5.1.4.1.2.2.2"] is STUDY_ROOT
    assert MODELS["1.2.840.10008.5.1.4.1.2.3.3"] is PATIENT_STUDY_ONLY
    assert len(MODELS) == 9


@pytest.mark.parametrize(
    ("model", "level"),
    [(STUDY_ROOT, Level.PATIENT), (PATIENT_STUDY_ONLY, Level.SERIES), (PATIENT_STUDY_ONLY, Level.IMAGE)],
)
@pytest.mark.parametrize("read", [read_query, read_retrieve])
def test_levels_that_a_model_does_not_have(model, level, read):
    with pytest.raises(InvalidIdentifier, match=f"{model.name} has no {level} level"):
        read(asked(level, PatientID="1", SeriesInstanceUID="1", SOPInstanceUID="1"), model)


@pytest.mark.parametrize("model", [PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY], ids=lambda model: model.name)
def test_each_attribute_is_supported_from_its_level_downwards(model):
    identifier_keys = {attribute.keyword: "" for attribute in ATTRIBUTES}
    for level in model.levels:
        identifier = asked(level, **identifier_keys)
        supported = {attribute.keyword for attribute in read_query(identifier, model).return_keys}
        expected = {a.keyword for a in ATTRIBUTES if a.level.depth <= level.depth}
        assert supported == expected
        assert {
            BY_TAG[key.tag].keyword for key in unsupported_keys(identifier, model)
        } == identifier_keys.keys() - expected


# C-FIND.


def test_a_query_has_its_conditions_and_return_keys_in_order():
    identifier = asked(PatientName="DOE*", StudyInstanceUID="", StudyDate="20240101-", SeriesInstanceUID="1.2")
    query = read_query(identifier, STUDY_ROOT)
    assert query.level is Level.STUDY
    assert conditions(query) == {"PatientName": WildCard("DOE*"), "StudyDate": Range("20240101", None)}
    assert [a.keyword for a in query.return_keys] == ["PatientName", "StudyInstanceUID", "StudyDate"]


def test_keys_below_the_level_do_not_match_and_are_unsupported():
    identifier = asked(Level.STUDY, Modality="DX", ModalitiesInStudy="DX", NumberOfStudyRelatedSeries="")
    assert conditions(read_query(identifier, STUDY_ROOT)) == {"ModalitiesInStudy": SingleValue("DX")}
    assert [key.tag for key in unsupported_keys(identifier, STUDY_ROOT)] == [BY_KEYWORD["Modality"].tag]


def test_keys_above_the_level_match_and_may_be_missing():
    query = read_query(asked(Level.IMAGE, PatientID="4711", InstanceNumber=""), PATIENT_ROOT)
    assert conditions(query) == {"PatientID": SingleValue("4711")}


def test_unsupported_keys_are_those_that_nobody_answers():
    ds = data_set(QueryRetrieveLevel="STUDY", RetrieveAETitle="", InstanceAvailability="", StudyDate="")
    assert unsupported_keys(Identifier.read(encoded(ds), ExplicitVRLittleEndian), STUDY_ROOT) == ()
    ds.AdmittingDiagnosesDescription = ""
    ds.add_new(0x00091001, "LO", "")
    unsupported = unsupported_keys(Identifier.read(encoded(ds), ExplicitVRLittleEndian), STUDY_ROOT)
    assert [key.tag for key in unsupported] == [0x00081080, 0x00091001]


# Matching, PS3.4 C.2.2.2.


@pytest.mark.parametrize(
    ("vr", "value", "matching"),
    [
        # universal
        *((vr, "", None) for vr in ("PN", "LO", "UI", "DA", "TM", "DT", "IS", "US", "CS", "LT")),
        ("PN", "*", None),
        ("LO", "**", None),
        ("UI", "*", None),
        ("DA", "*", None),
        ("DA", "-", None),
        ("TM", " - ", None),
        ("DT", "-", None),
        ("PN", "*^*", None),
        ("PN", "^^^^", None),
        ("PN", " =^*\\^", None),
        ("LO", "\\*", None),
        # single value
        ("LO", "4711", SingleValue("4711")),
        ("LO", "^", SingleValue("^")),
        ("LO", "100%_x", SingleValue("100%_x")),
        ("SH", "A-1", SingleValue("A-1")),
        ("UI", "1.2.3", SingleValue("1.2.3")),
        ("UI", "1.2.*", SingleValue("1.2.*")),
        ("IS", "1*", SingleValue("1*")),
        ("US", "512", SingleValue("512")),
        ("LT", "a\\b", SingleValue("a\\b")),
        ("DA", "20240101", SingleValue("20240101")),
        ("DA", "2024.01.01", SingleValue("20240101")),
        ("DA", "2024-01-01", SingleValue("20240101")),
        ("DA", "2024*", SingleValue("2024*")),
        ("TM", "10:15:00", SingleValue("101500")),
        ("DT", "20240101101500.5-0500", SingleValue("20240101101500.5-0500")),
        # lists
        ("UI", "1.2\\1.3", UIDList(("1.2", "1.3"))),
        ("UI", "1.2\\\\1.2", SingleValue("1.2")),
        ("CS", "CT\\MR", UIDList(("CT", "MR"))),
        ("DA", "20240101\\20240102", UIDList(("20240101", "20240102"))),
        ("LO", "CT*\\MR*", None),
        # wild cards
        ("PN", "DOE*", WildCard("DOE*")),
        ("PN", "D?E^J*", WildCard("D?E^J*")),
        ("LO", "?", WildCard("?")),
        ("SH", "***a***", WildCard("*a*")),
        ("CS", "*" * 10_000 + "?", WildCard("*?")),
        ("LT", "*a\\b", WildCard("*a\\b")),
        # ranges
        ("DA", "20240101-20240131", Range("20240101", "20240131")),
        ("DA", "20240101 - 20240131", Range("20240101", "20240131")),
        ("DA", "20240101-", Range("20240101", None)),
        ("DA", "-20240131", Range(None, "20240131")),
        ("DA", "2024.01.01-2024.01.31", Range("20240101", "20240131")),
        ("DA", "2024-01-01-2024-01-31", Range("20240101", "20240131")),
        ("DA", "1-2-3", SingleValue("1-2-3")),
        ("TM", "08-12", Range("08", "12")),
        ("TM", "08:00-12:30:15.5", Range("0800", "123015.5")),
        ("DT", "2024-2025", Range("2024", "2025")),
        ("DT", "20240101-20240131", Range("20240101", "20240131")),
        ("DT", "20240101-", Range("20240101", None)),
        ("DT", "-20240131120000", Range(None, "20240131120000")),
        ("DT", "202401011200-0500-202401021200-0500", Range("202401011200-0500", "202401021200-0500")),
        ("DT", "202401011200+0100-", Range("202401011200+0100", None)),
    ],
)
def test_matching(vr, value, matching):
    assert matching_of(value, vr) == matching


@pytest.mark.parametrize(
    ("vr", "value", "normalised"),
    [
        ("DA", "2020.01.31", "20200131"),
        ("DA", "2020/01/31", "20200131"),
        ("DA", "20200131", "20200131"),
        ("DA", "unknown", "unknown"),
        ("TM", "10:15", "1015"),
        ("LO", "10:15", "10:15"),
    ],
)
def test_dates_and_times_of_acr_nema(vr, value, normalised):
    assert normalise(value, vr) == normalised


@given(st.sampled_from(["PN", "LO", "UI", "DA", "TM", "DT", "IS", "CS", "LT"]), st.text("019*?-\\ ^=.:%_+"))
def test_any_value_asks_for_something(vr, value):
    matching = matching_of(value, vr)
    if isinstance(matching, Range):
        assert matching.first or matching.last
    if isinstance(matching, UIDList):
        assert len(matching.values) > 1


# What is negotiated, PS3.4 C.5.1.1.

STUDY_TIME = BY_KEYWORD["StudyTime"]


@pytest.mark.parametrize(
    ("option", "asked_for", "with_it", "without"),
    [
        (
            "date_time",
            {"StudyDate": "20240101-20240102", "StudyTime": "10-1130"},
            {"StudyDate": DateTimeRange(STUDY_TIME, ("20240101", "10"), ("20240102", "1130"))},
            {"StudyDate": Range("20240101", "20240102"), "StudyTime": Range("10", "1130")},
        ),
        (
            "date_time",
            {"StudyTime": "10-", "StudyDate": "2024.01.01-"},
            {"StudyDate": DateTimeRange(STUDY_TIME, ("20240101", "10"), None)},
            {"StudyDate": Range("20240101", None), "StudyTime": Range("10", None)},
        ),
        (
            "date_time",
            {"PatientBirthDate": "-20240101", "PatientBirthTime": "-10"},
            {"PatientBirthDate": DateTimeRange(BY_KEYWORD["PatientBirthTime"], None, ("20240101", "10"))},
            {"PatientBirthDate": Range(None, "20240101"), "PatientBirthTime": Range(None, "10")},
        ),
        *(  # not of the same form
            ("date_time", wanted, conditions, conditions)
            for wanted, conditions in (
                (
                    {"StudyDate": "20240101-", "StudyTime": "-10"},
                    {"StudyDate": Range("20240101", None), "StudyTime": Range(None, "10")},
                ),
                (
                    {"StudyDate": "20240101", "StudyTime": "-10"},
                    {"StudyDate": SingleValue("20240101"), "StudyTime": Range(None, "10")},
                ),
                ({"StudyDate": "20240101-", "StudyTime": ""}, {"StudyDate": Range("20240101", None)}),
                (
                    {"StudyDate": "20240101-", "PatientBirthTime": "10-"},
                    {"StudyDate": Range("20240101", None), "PatientBirthTime": Range("10", None)},
                ),
            )
        ),
        ("fuzzy_names", {"PatientName": "jane doe"}, {"PatientName": FuzzyName("jane doe")},
         {"PatientName": SingleValue("jane doe")}),
        ("fuzzy_names", {"PatientName": "\\jane doe\\"}, {"PatientName": FuzzyName("jane doe")},
         {"PatientName": SingleValue("jane doe")}),
        ("fuzzy_names", {"PatientName": "d* j"}, {"PatientName": FuzzyName("d* j")}, {"PatientName": WildCard("d* j")}),
        ("fuzzy_names", {"PatientName": "*", "StudyID": "d"}, {"StudyID": SingleValue("d")},
         {"StudyID": SingleValue("d")}),
        *(
            ("empty_values", {keyword: '""'}, {keyword: Empty()}, {keyword: SingleValue('""')})
            for keyword in ("PatientID", "PatientName", "PatientComments", "StudyDate", "StudyTime", "PatientAge",
                            "PatientWeight", "PatientSex", "AccessionNumber")
        ),
        ("empty_values", {"PatientID": ""}, {}, {}),
        ("multiple_values", {"ModalitiesInStudy": "CT\\PT"}, {"ModalitiesInStudy": AllOf(("CT", "PT"))},
         {"ModalitiesInStudy": UIDList(("CT", "PT"))}),
        ("multiple_values", {"OtherPatientIDs": "A\\B"}, {"OtherPatientIDs": AllOf(("A", "B"))},
         {"OtherPatientIDs": UIDList(("A", "B"))}),
        ("multiple_values", {"ModalitiesInStudy": "CT\\CT"}, {"ModalitiesInStudy": SingleValue("CT")},
         {"ModalitiesInStudy": SingleValue("CT")}),
        ("multiple_values", {"ModalitiesInStudy": "C*\\PT"}, {}, {}),
        *(  # a UI, a Value Multiplicity of 1
            ("multiple_values", {keyword: "1\\2"}, {keyword: UIDList(("1", "2"))}, {keyword: UIDList(("1", "2"))})
            for keyword in ("SOPClassesInStudy", "StudyInstanceUID")
        ),
        *(  # a Value Multiplicity of 1: the backslash may be a part of the value
            ("multiple_values", {keyword: "1\\2"}, {keyword: both}, {keyword: both})
            for keyword in ("PatientID", "StudyID")
            for both in (UIDList(("1\\2", "1", "2")),)
        ),
    ],
)  # fmt: skip
def test_what_is_negotiated(option, asked_for, with_it, without):
    identifier = asked(**asked_for)
    others = {name: True for name in Negotiated.__dataclass_fields__ if name != option}
    assert conditions(read_query(identifier, STUDY_ROOT, Negotiated(**{option: True}))) == with_it
    assert conditions(read_query(identifier, STUDY_ROOT)) == without
    if option != "fuzzy_names" and "PatientName" not in asked_for:
        assert conditions(read_query(identifier, STUDY_ROOT, Negotiated(**others))) == without


def test_a_time_zone_is_no_key():
    query = read_query(asked(TimezoneOffsetFromUTC="+0100", StudyID="1"), STUDY_ROOT)
    assert conditions(query) == {"StudyID": SingleValue("1")}
    assert [a.keyword for a in query.return_keys] == ["TimezoneOffsetFromUTC", "StudyID"]


ABOVE = {"PatientID": "4711", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
OWN = {"StudyInstanceUID": "1.2\\1.9", "SeriesInstanceUID": "1.3\\1.4", "SOPInstanceUID": "1.4\\1.5", "PatientID": "1"}


@pytest.mark.parametrize("read", [read_query, read_retrieve])
@pytest.mark.parametrize("model", [PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY], ids=lambda model: model.name)
def test_a_strict_hierarchy(read, model):
    for level in model.levels:
        *above, own = (attribute.keyword for attribute in model.unique_keys(level))
        whole = {keyword: ABOVE[keyword] for keyword in above} | {own: OWN[own]}
        assert read(asked(level, **whole), model, strict=True) == read(asked(level, **whole), model)
        for missing, value in itertools.product(above, ["", "*", "1\\2", None]):
            changed = {k: v for k, v in (whole | {missing: value or ""}).items() if k != missing or value is not None}
            request = asked(level, **changed)
            with pytest.raises(InvalidIdentifier, match=f"needs one value in {missing}"):
                read(request, model, strict=True)
            assert read(request, model, Negotiated(relational=True), strict=True) == read(request, model)


# C-MOVE and C-GET.


@pytest.mark.parametrize(
    ("model", "level", "values", "expected"),
    [
        (PATIENT_ROOT, Level.PATIENT, {"PatientID": "4711"}, {"PatientID": SingleValue("4711")}),
        (PATIENT_ROOT, Level.PATIENT, {"PatientID": "1\\2"}, {"PatientID": UIDList(("1\\2", "1", "2"))}),
        (STUDY_ROOT, Level.SERIES, {"SeriesInstanceUID": "1\\2"}, {"SeriesInstanceUID": UIDList(("1", "2"))}),
        (STUDY_ROOT, Level.STUDY, {"StudyInstanceUID": "1.2"}, {"StudyInstanceUID": SingleValue("1.2")}),
        (STUDY_ROOT, Level.STUDY, {"StudyInstanceUID": "1.2\\1.3"}, {"StudyInstanceUID": UIDList(("1.2", "1.3"))}),
        (
            STUDY_ROOT,
            Level.STUDY,
            {"StudyInstanceUID": "1.2", "PatientID": "4711", "StudyDate": "20240101", "Modality": "CT"},
            {"StudyInstanceUID": SingleValue("1.2")},
        ),
        (
            PATIENT_ROOT,
            Level.SERIES,
            {"PatientID": "4711", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"},
            {
                "PatientID": SingleValue("4711"),
                "StudyInstanceUID": SingleValue("1.2"),
                "SeriesInstanceUID": SingleValue("1.3"),
            },
        ),
        (STUDY_ROOT, Level.IMAGE, {"SOPInstanceUID": "1.4"}, {"SOPInstanceUID": SingleValue("1.4")}),
        (PATIENT_ROOT, Level.STUDY, {"PatientID": "", "StudyInstanceUID": "1"}, {"StudyInstanceUID": SingleValue("1")}),
    ],
)
def test_a_retrieve_goes_by_unique_keys_only(model, level, values, expected):
    query = read_retrieve(asked(level, **values), model)
    assert query.level is level
    assert conditions(query) == expected
    assert query.return_keys == ()


@pytest.mark.parametrize("everything", ["*", "**", "?", "1.2.*"])
def test_a_retrieve_takes_wild_cards_literally(everything):
    query = read_retrieve(asked(Level.PATIENT, PatientID=everything), PATIENT_ROOT)
    assert conditions(query) == {"PatientID": SingleValue(everything)}


@pytest.mark.parametrize(
    ("model", "level", "needed"),
    [
        (PATIENT_ROOT, Level.PATIENT, r"PatientID \(0010,0020\)"),
        (STUDY_ROOT, Level.STUDY, r"StudyInstanceUID \(0020,000D\)"),
        (STUDY_ROOT, Level.SERIES, r"SeriesInstanceUID \(0020,000E\)"),
        (STUDY_ROOT, Level.IMAGE, r"SOPInstanceUID \(0008,0018\)"),
    ],
)
@pytest.mark.parametrize("value", [None, "", "\\"])
def test_a_retrieve_needs_the_unique_key_of_its_level(model, level, needed, value):
    keys = {"PatientName": "DOE"} | ({a.keyword: value for a in model.unique_keys(level)} if value is not None else {})
    with pytest.raises(InvalidIdentifier, match=needed) as error:
        read_retrieve(asked(level, **keys), model)
    assert "DOE" not in str(error.value)
