"""PS3.4 C.2.2.2, kind by kind and Value Representation by Value Representation, on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from backup_scp.dicom.attributes import BY_KEYWORD, UNIQUE_KEY, Level
from backup_scp.dicom.query.information_model import (
    AllOf,
    DateTimeRange,
    Empty,
    FuzzyName,
    Range,
    SingleValue,
    UIDList,
    WildCard,
)
from backup_scp.index.reading import select
from tests.index.examples import answers, filling, query, version

ALL = object()

NAMES = ("DOE^JANE", "Doe^Jane^^", "Döe^Jané", "DOE^JOHN", "SMITH_A", "SMITHXA", "Yamada^Tarou=山田^太郎=やまだ^たろう",
         "ROE", "김^희중", "Ωmega^Ñandú", "straße")  # fmt: skip
DATES = ("20200101", "2020.01.02", "20200103", "2020-02-01", "19991231", "odd", "")
TIMES = ("10", "1000", "10:00:00", "100000.000", "100000.5", "1030", "115930", "2359", "odd", "")
ODD_TIMES = ("101010.12345678", "1011.", "20200101101100.0", "240000", "20200101", "")
IDS = ("A1", "a1", "A_1", "AX1", "A%1", "A*", "A[1]", "A1]", "A'1", 'A"1', "A?1", "A!1", "01", "1", "  A1", "")
NUMBERS = ("1", "01", "+1", "-1", "10", "odd", "")
DECIMALS = ("1.5", "1.50", "+1.5", "15e-1", ".5", "2", "odd", "")
TYPES = ("ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY\\AXIAL", "ORIGINAL", "ORIGINALS\\X", "")
OTHERS = ("A1\\B2", "B2", "A1 \\ C_3", "CX3\\A%", "")

SOME = {
    "PatientID": "1", "PatientName": "DOE", "PatientBirthDate": "20200101", "PatientBirthTime": "10", "PatientSex": "M",
    "OtherPatientIDs": "A\\B", "PatientComments": "x", "AccessionNumber": "1", "PatientAge": "045Y",
    "PatientWeight": "7", "OperatorsName": "ROE", "SeriesNumber": "1", "ImageType": "A\\B", "Rows": "512",
}  # fmt: skip

# fmt: off
CASES = [
    # keyword, stored, matching, found
    ("PatientID", IDS, SingleValue("A1"), ("A1", "  A1")),
    ("PatientID", IDS, SingleValue("A1  "), ("A1", "  A1")),
    ("PatientID", IDS, SingleValue("a1"), ("a1",)),
    ("PatientID", ("C\\D9", "C", "D9", "X"), UIDList(("C\\D9", "C", "D9")), ("C\\D9", "C", "D9")),
    ("PatientID", ("C\\D9", "X\\C", "X"), UIDList(("C\\D9", "C", "D9")), ("C\\D9",)),
    ("AccessionNumber", ("L\\R", "L \\ R", "L"), UIDList(("L\\R", "L", "R")), ("L\\R", "L \\ R", "L")),
    ("PatientName", ("Doe\\A", "Roe"), UIDList(("doe\\a", "doe", "a")), ("Doe\\A",)),
    ("PatientSize", ("1.7\\2", "1.70", "3"), UIDList(("1.7\\2", "1.7", "2")), ("1.7\\2", "1.70")),
    ("StudyDescription", ("a" * 1024, "a" * 1023), WildCard("a" * 1023 + "?*"), ("a" * 1024,)),
    ("StudyDescription", ("a" * 1100, "b"), WildCard("a" * 1023 + "?*"), ("a" * 1100,)),
    ("StudyDescription", ("a" * 1100, "b"), WildCard("a" * 1024 + "?*"), ()),
    ("PatientID", IDS, SingleValue("1"), ("1",)),
    ("PatientID", IDS, SingleValue("A'1"), ("A'1",)),
    ("PatientID", IDS, SingleValue("' OR ''='"), ()),
    ("PatientID", IDS, UIDList(("A1", "01", "none")), ("A1", "  A1", "01")),
    ("PatientID", IDS, WildCard("*"), ALL),
    ("PatientID", IDS, WildCard("A*"), tuple(i for i in IDS if i.strip().startswith("A"))),
    ("PatientID", IDS, WildCard("A?1"), ("A_1", "AX1", "A%1", "A'1", 'A"1', "A?1", "A!1")),
    ("PatientID", IDS, WildCard("A_*"), ("A_1",)),
    ("PatientID", IDS, WildCard("A%*"), ("A%1",)),
    ("PatientID", IDS, WildCard("A!*"), ("A!1",)),
    ("PatientID", IDS, WildCard("A[*"), ("A[1]",)),
    ("PatientID", IDS, WildCard("*]"), ("A[1]", "A1]")),
    ("PatientID", IDS, WildCard("*[1]"), ("A[1]",)),
    ("PatientID", IDS, WildCard("a*"), ("a1",)),
    ("PatientID", IDS, WildCard("?"), ("1",)),
    ("PatientID", IDS, WildCard("??"), ("A1", "  A1", "a1", "A*", "01")),
    ("PatientID", IDS, WildCard("**1**"), tuple(i for i in IDS if "1" in i)),
    ("PatientID", IDS, WildCard("*1 "), tuple(i for i in IDS if i.endswith("1"))),
    ("AccessionNumber", IDS, SingleValue("A_1"), ("A_1",)),
    ("AccessionNumber", IDS, WildCard("A?1*"), ("A_1", "A[1]", "AX1", "A%1", "A'1", 'A"1', "A?1", "A!1")),
    ("StudyDescription", ("Chest PA", "chest pa", "Knee", ""), WildCard("*PA"), ("Chest PA",)),
    ("PatientComments", ("line one\r\nline two", "a\\b", "b", ""), WildCard("*one*two"), ("line one\r\nline two",)),
    ("PatientComments", ("a\\b", "b", ""), SingleValue("b"), ("b",)),
    ("PatientComments", ("a\\b", "b", ""), WildCard("a\\*"), ("a\\b",)),
    ("Modality", ("DX", "CR", "dx", ""), SingleValue("DX"), ("DX",)),
    ("Modality", ("DX", "CR", "MG", ""), UIDList(("DX", "MG")), ("DX", "MG")),
    ("Modality", ("DX", "CR", "XA", ""), WildCard("?X"), ("DX",)),
    ("PatientAge", ("045Y", "045M", ""), SingleValue("045Y"), ("045Y",)),
    ("Rows", ("512", "1024", ""), SingleValue("512"), ("512",)),
    ("StudyInstanceUID", ("1.2", "1.20", "1.2.3", "1.2.x 7"), SingleValue("1.2"), ("1.2",)),
    ("StudyInstanceUID", ("1.2", "1.20", "1.2.3"), UIDList(("1.2", "1.2.3", "9")), ("1.2", "1.2.3")),
    ("SOPClassUID", ("1.2", "1.20"), UIDList(("1.20", "9")), ("1.20",)),
    # Person names: any case, any accents, any component group
    ("PatientName", NAMES, SingleValue("doe^jane"), ("DOE^JANE", "Doe^Jane^^", "Döe^Jané")),
    ("PatientName", NAMES, SingleValue("DÖE^JANE^"), ("DOE^JANE", "Doe^Jane^^", "Döe^Jané")),
    ("PatientName", NAMES, SingleValue("doe"), ()),
    ("PatientName", NAMES, SingleValue("山田^太郎"), (NAMES[6],)),
    ("PatientName", NAMES, SingleValue("やまだ^たろう"), (NAMES[6],)),
    ("PatientName", NAMES, SingleValue("=山田^太郎"), (NAMES[6],)),
    ("PatientName", NAMES, SingleValue("=yamada^tarou"), ()),
    ("PatientName", NAMES, SingleValue("yamada^tarou=山田^太郎"), (NAMES[6],)),
    ("PatientName", NAMES, SingleValue("STRASSE"), ("straße",)),
    ("PatientName", NAMES, SingleValue("ωmega^nandu"), ("Ωmega^Ñandú",)),
    ("PatientName", NAMES, SingleValue("^"), ()),
    ("PatientName", NAMES, UIDList(("roe", "doe^john")), ("ROE", "DOE^JOHN")),
    ("PatientName", NAMES, WildCard("doe*"), NAMES[:4]),
    ("PatientName", NAMES, WildCard("?OE*"), (*NAMES[:4], "ROE")),
    ("PatientName", NAMES, WildCard("roe^*"), ("ROE",)),
    ("PatientName", NAMES, WildCard("  DOE*"), NAMES[:4]),
    ("PatientName", ("A=B=C", "A"), WildCard("=".join(("*" + "a" * 1000,) * 3)), ()),
    ("PatientName", ("=".join(("a" * 510,) * 3), "A"), WildCard("=".join(("a" * 500 + "*",) * 3)),
     ("=".join(("a" * 510,) * 3),)),
    ("PatientName", NAMES, WildCard("r?e^*"), ("ROE",)),
    ("PatientName", NAMES, WildCard("*roe*^*"), ("ROE",)),
    ("PatientName", NAMES, WildCard("ro*^?*"), ()),
    ("PatientName", NAMES, WildCard("*^jane"), NAMES[:3]),
    ("PatientName", ("Döe^J", "Do\u0308e^J"), SingleValue("doe^j"), ("Döe^J", "Do\u0308e^J")),
    ("PatientName", ("Döe^J", "DOE^J"), WildCard("do\u0308e*"), ("Döe^J", "DOE^J")),
    ("PatientName", NAMES, WildCard("smith_a"), ("SMITH_A",)),
    ("PatientName", NAMES, WildCard("smith_*"), ("SMITH_A",)),
    ("PatientName", NAMES, WildCard("smith?*"), ("SMITH_A", "SMITHXA")),
    ("PatientName", NAMES, WildCard("山*"), (NAMES[6],)),
    ("PatientName", NAMES, WildCard("*=山田*"), (NAMES[6],)),
    ("PatientName", NAMES, WildCard("Y*=*太郎=やまだ*"), (NAMES[6],)),
    ("PatientName", NAMES, WildCard("김^??"), ("김^희중",)),
    ("ReferringPhysicianName", NAMES, SingleValue("doe^jane"), NAMES[:3]),
    ("ReferringPhysicianName", NAMES, SingleValue("山田^太郎"), (NAMES[6],)),
    ("ReferringPhysicianName", NAMES, WildCard("smith_*"), ("SMITH_A",)),
    ("ReferringPhysicianName", NAMES, UIDList(("roe", "山田^太郎")), ("ROE", NAMES[6])),
    ("OperatorsName", ("DOE^A\\ROE^B", "ROE^B", "XROE^B\\Y", ""), SingleValue("roe^b"), ("DOE^A\\ROE^B", "ROE^B")),
    ("OperatorsName", ("DOE^A\\ROE^B", "ROE^B", ""), WildCard("d*b"), ()),
    ("OperatorsName", ("DOE^A\\ROE^B", "ROE^B", ""), WildCard("d*"), ("DOE^A\\ROE^B",)),
    ("OperatorsName", ("A\uff3cB", "A", "A\uff3c\uff22"), SingleValue("a\uff3cb"), ("A\uff3cB", "A\uff3c\uff22")),
    ("OperatorsName", ("A\uff0aB", "AXB"), WildCard("a\uff0a?"), ("A\uff0aB",)),
    ("PatientComments", ("a" * 99 + "b", "a" * 99, "b"), WildCard("*" + "a" * 80 + "*b"), ("a" * 99 + "b",)),
    # Dates
    ("StudyDate", DATES, SingleValue("20200101"), ("20200101",)),
    ("StudyDate", DATES, SingleValue("2020.01.02"), ("2020.01.02",)),
    ("StudyDate", DATES, SingleValue("20200102"), ("2020.01.02",)),
    ("StudyDate", DATES, SingleValue("odd"), ("odd",)),
    ("StudyDate", DATES, SingleValue("20200101123000.5-0500"), ("20200101",)),
    ("StudyDate", ("20200101123000+0100", "2020010112", "20200102.", ""), SingleValue("20200101"),
     ("20200101123000+0100", "2020010112")),
    ("StudyDate", ("20200101123000", "20200102.", ""), Range("20200102", None), ("20200102.",)),
    ("StudyDate", DATES, Range("20200101000000", "20200131235959"), ("20200101", "2020.01.02", "20200103")),
    ("StudyDate", DATES, UIDList(("20200101", "20200201", "odd")), ("20200101", "2020-02-01", "odd")),
    ("StudyDate", DATES, Range("20200101", "20200131"), ("20200101", "2020.01.02", "20200103")),
    ("StudyDate", DATES, Range("2020.01.02", "2020.01.03"), ("2020.01.02", "20200103")),
    ("StudyDate", DATES, Range("20200102", None), ("2020.01.02", "20200103", "2020-02-01")),
    ("StudyDate", DATES, Range(None, "20200101"), ("20200101", "19991231")),
    ("StudyDate", DATES, Range(None, None), ALL),
    ("StudyDate", DATES, Range("yesterday", None), ()),
    ("StudyDate", DATES, Range("20200103", "20200101"), ()),
    ("PatientBirthDate", DATES, Range(None, "20200101"), ("20200101", "19991231")),
    ("ContentDate", DATES, Range("20200103", None), ("20200103", "2020-02-01")),
    # Times
    ("StudyTime", TIMES, SingleValue("10"), ("10", "1000", "10:00:00", "100000.000")),
    ("StudyTime", TIMES, SingleValue("100000"), ("10", "1000", "10:00:00", "100000.000")),
    ("StudyTime", TIMES, SingleValue("100000.50"), ("100000.5",)),
    ("StudyTime", TIMES, SingleValue("10:30"), ("1030",)),
    ("StudyTime", TIMES, SingleValue("100000.5000001"), ("100000.5",)),
    ("StudyTime", TIMES, SingleValue("20200101103000-0500"), ("1030",)),
    ("StudyTime", ODD_TIMES, SingleValue("101010.123456"), ("101010.12345678",)),
    ("StudyTime", ODD_TIMES, SingleValue("1011"), ("1011.", "20200101101100.0")),
    ("StudyTime", ODD_TIMES, SingleValue("240000"), ("240000",)),
    ("StudyTime", ODD_TIMES, Range("2359", None), ("240000",)),
    ("StudyTime", ODD_TIMES, Range(None, "240000"), ODD_TIMES[:4]),
    ("StudyTime", ODD_TIMES, Range("1010", "101010.1234569"), ("101010.12345678",)),
    ("StudyTime", TIMES, Range("100000", "103000"), ("10", "1000", "10:00:00", "100000.000", "100000.5", "1030")),
    ("StudyTime", TIMES, Range("1030", "1159"), ("1030", "115930")),
    ("StudyTime", TIMES, Range("1030", "115929.999999"), ("1030",)),
    ("StudyTime", TIMES, Range("11", None), ("115930", "2359")),
    ("StudyTime", TIMES, Range(None, "10"), ("10", "1000", "10:00:00", "100000.000", "100000.5", "1030")),
    ("ContentTime", TIMES, Range("2359", "2359"), ("2359",)),
    # Numbers
    ("SeriesNumber", NUMBERS, SingleValue("1"), ("1", "01", "+1")),
    ("SeriesNumber", NUMBERS, SingleValue(" 001 "), ("1", "01", "+1")),
    ("SeriesNumber", NUMBERS, SingleValue("-1"), ("-1",)),
    ("SeriesNumber", NUMBERS, SingleValue("odd"), ("odd",)),
    ("SeriesNumber", NUMBERS, UIDList(("10", "odd", "1")), ("10", "odd", "1", "01", "+1")),
    ("SeriesNumber", NUMBERS, SingleValue("9" * 40), ()),
    ("InstanceNumber", NUMBERS, SingleValue("1"), ("1", "01", "+1")),
    ("PatientWeight", DECIMALS, SingleValue("1.5"), ("1.5", "1.50", "+1.5", "15e-1")),
    ("PatientWeight", DECIMALS, SingleValue("0.50"), (".5",)),
    ("PatientWeight", DECIMALS, UIDList(("2.0", "0.5")), (".5", "2")),
    # Several values: any of them
    ("ImageType", TYPES, SingleValue("ORIGINAL"), ("ORIGINAL\\PRIMARY", "ORIGINAL")),
    ("ImageType", TYPES, SingleValue("PRIMARY"), ("ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY\\AXIAL")),
    ("ImageType", TYPES, UIDList(("AXIAL", "X")), ("DERIVED\\PRIMARY\\AXIAL", "ORIGINALS\\X")),
    ("ImageType", TYPES, WildCard("ORIG*AL"), ("ORIGINAL\\PRIMARY", "ORIGINAL")),
    ("ImageType", TYPES, WildCard("O*X"), ()),
    ("ImageType", TYPES, SingleValue("ORIGINAL\\PRIMARY"),
     ("ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY\\AXIAL", "ORIGINAL")),
    ("OtherPatientIDs", OTHERS, SingleValue("A1"), ("A1\\B2", "A1 \\ C_3")),
    ("OtherPatientIDs", OTHERS, SingleValue("C_3"), ("A1 \\ C_3",)),
    ("OtherPatientIDs", OTHERS, WildCard("C_*"), ("A1 \\ C_3",)),
    ("OtherPatientIDs", OTHERS, WildCard("A%"), ("CX3\\A%",)),
    # Every value, where negotiated
    ("ImageType", TYPES, AllOf(("PRIMARY", "ORIGINAL")), ("ORIGINAL\\PRIMARY",)),
    ("ImageType", TYPES, AllOf(("AXIAL", "DERIVED")), ("DERIVED\\PRIMARY\\AXIAL",)),
    ("ImageType", TYPES, AllOf(("ORIGINAL", "AXIAL")), ()),
    ("ImageType", TYPES, AllOf(tuple(f"T{n}" for n in range(5_000))), ()),
    ("OtherPatientIDs", OTHERS, AllOf(("C_3", "A1")), ("A1 \\ C_3",)),
    ("OperatorsName", ("DOE^A\\ROE^B", "ROE^B", ""), AllOf(("roe^b", "doe^a")), ("DOE^A\\ROE^B",)),
    # No value, where negotiated
    *((keyword, (some, ""), Empty(), ("",)) for keyword, some in SOME.items()),
    # Person names by words, where negotiated; else the order of components matters
    ("PatientName", NAMES, SingleValue("jane^doe"), ()),
    ("PatientName", NAMES, WildCard("jane*"), ()),
    ("PatientName", NAMES, FuzzyName("jane^doe"), NAMES[:3]),
    ("PatientName", NAMES, FuzzyName("JÁN D"), NAMES[:3]),
    ("PatientName", NAMES, FuzzyName("j, doe"), NAMES[:4]),
    ("PatientName", NAMES, FuzzyName("oe"), ()),
    ("PatientName", NAMES, FuzzyName("*oe"), (*NAMES[:4], "ROE")),
    ("PatientName", NAMES, FuzzyName("?oe j"), NAMES[:4]),
    ("PatientName", NAMES, FuzzyName("smith_"), ("SMITH_A",)),
    ("PatientName", NAMES, FuzzyName("太郎^山田"), (NAMES[6],)),
    ("PatientName", NAMES, FuzzyName("tarou yamada=太郎"), (NAMES[6],)),
    ("PatientName", NAMES, FuzzyName("tarou=山田=やまだ"), (NAMES[6],)),
    ("PatientName", NAMES, FuzzyName("=tarou"), ()),
    ("PatientName", NAMES, FuzzyName("tarou 太郎"), ()),  # words of two groups
    ("PatientName", NAMES, FuzzyName("ñandu omega"), ()),
    ("PatientName", NAMES, FuzzyName("ñandu ωm"), ("Ωmega^Ñandú",)),
    ("PatientName", NAMES, FuzzyName("^ ,-"), ()),
    ("PatientName", NAMES, FuzzyName("x " * 5_000), ()),
    ("PatientName", NAMES, FuzzyName(" ".join(f"x{n}" for n in range(5_000))), ()),
    ("PatientName", NAMES, FuzzyName("*?" * 60_000), ()),
    ("PatientName", ("MEYER-SCHMIDT^ANNA", "MEYER^ANNA"), FuzzyName("anna schmidt"), ("MEYER-SCHMIDT^ANNA",)),
    ("PatientName", ("VON DER HEIDE^A", "HEIDEN^A", "X^HEI"), FuzzyName("heid"), ("VON DER HEIDE^A", "HEIDEN^A")),
    ("ReferringPhysicianName", NAMES, FuzzyName("jane doe"), NAMES[:3]),
    ("ReferringPhysicianName", NAMES, FuzzyName("太郎"), (NAMES[6],)),
    ("OperatorsName", ("DOE^A\\ROE^B", "ROE^A", ""), FuzzyName("b roe"), ("DOE^A\\ROE^B",)),
    ("OperatorsName", ("DOE^A\\ROE^B", "ROE^A", ""), FuzzyName("a roe"), ("ROE^A",)),  # words of two people
    ("OtherPatientIDs", ('a"b\\c', "a\nb\\é", ""), WildCard("a?b"), ('a"b\\c', "a\nb\\é")),
]
# fmt: on


@pytest.mark.parametrize(
    ("keyword", "stored", "matching", "found"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)]
)
def test_matching(shared_index, keyword, stored, matching, found):
    attribute = BY_KEYWORD[keyword]
    with filling(shared_index) as enter:
        for number, value in enumerate(stored):
            uids: dict[str, Any] = {"sop": f"1.{number}", "series": f"2.{number}", "study": f"3.{number}"}
            if keyword == "StudyInstanceUID":
                enter(version(**uids | {"study": value}))
            elif keyword == "SOPClassUID":
                enter(version(**uids, sop_class=value))
            else:
                enter(version(**uids, **{keyword: value}))
    wanted = sorted(_shown(value) for value in (stored if found is ALL else found))
    for level in Level:
        if level.depth >= max(attribute.level.depth, Level.STUDY.depth):
            answered = answers(shared_index, level, keyword, **{keyword: matching})
            assert sorted(answer[keyword] for answer in answered) == wanted


def _shown(value: str) -> str:
    return "\\".join(each.strip() for each in value.split("\\"))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"ModalitiesInStudy": SingleValue("SR")}, "AB"),
        ({"ModalitiesInStudy": UIDList(("CR", "XX"))}, "B"),
        ({"ModalitiesInStudy": WildCard("?X")}, "A"),
        ({"SOPClassesInStudy": SingleValue("1.2")}, "A"),
        ({"SOPClassesInStudy": UIDList(("1.3", "1.9"))}, "AB"),
        ({"NumberOfStudyRelatedSeries": SingleValue("2")}, "AB"),
        ({"NumberOfStudyRelatedSeries": UIDList(("+02", "odd"))}, "AB"),
        ({"NumberOfPatientRelatedStudies": SingleValue("1")}, "AB"),
        ({"NumberOfPatientRelatedStudies": SingleValue("01")}, "AB"),
        ({"NumberOfStudyRelatedInstances": WildCard("2*")}, "AB"),
        ({"ModalitiesInStudy": SingleValue("SR"), "PatientID": WildCard("A*")}, "A"),
    ],
)
@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_computed_attributes_match_at_their_level_and_below(shared_index, level, wanted, found):
    with filling(shared_index) as enter:
        enter(version("1", "1", "A", PatientID="A", Modality="DX", sop_class="1.2"))
        enter(version("2", "2", "A", PatientID="A", Modality="SR", sop_class="1.3"))
        enter(version("3", "3", "B", PatientID="B", Modality="CR", sop_class="1.20"))
        enter(version("4", "4", "B", PatientID="B", Modality="SR", sop_class="1.3"))
    assert {a["StudyInstanceUID"] for a in answers(shared_index, level, **wanted)} == set(found)


MOMENTS = [
    *(("20240101", time) for time in ("0959", "1000", "235959.5", "")),
    *(("20240102", time) for time in ("0000", "1200", "")),
    *(("20240103", time) for time in ("1159", "115959.999", "1200", "")),
    ("20231231", "1100"),
    ("20240104", ""),
    ("", "1100"),
    ("", ""),
]


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (("20240101", "1000"), ("20240103", "1159"), MOMENTS[1:9] + MOMENTS[10:11]),
        (("20240101", "10:00"), ("2024.01.01", "1000"), [MOMENTS[1], MOMENTS[3]]),
        (("20240102", "1200"), None, MOMENTS[5:11] + MOMENTS[12:13]),
        (None, ("20240101", "0959"), [MOMENTS[0], MOMENTS[3], MOMENTS[11]]),
        (("20240103", "0000"), ("20240101", "2359"), []),
        (("yesterday", "10"), None, []),
        (None, ("20240103", "noon"), []),
    ],
)
@pytest.mark.parametrize("pair", ["Study", "PerformedProcedureStepStart", "Acquisition"])
def test_a_date_and_its_time_are_one_moment(shared_index, pair, first, last, found):
    date, time = f"{pair}Date", f"{pair}Time"
    with filling(shared_index) as enter:
        for number, (day, moment) in enumerate(MOMENTS):
            uids: dict[str, Any] = {"sop": f"1.{number}", "series": f"2.{number}", "study": f"3.{number}"}
            enter(version(**uids | {date: day, time: moment}))
    wanted: dict[str, Any] = {date: DateTimeRange(BY_KEYWORD[time], first, last)}
    answered = answers(shared_index, Level.IMAGE, date, time, **wanted)
    assert sorted((a[date], a[time]) for a in answered) == sorted(found)


@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY])
@pytest.mark.parametrize(
    "asked",
    [
        lambda n: {"PatientName": WildCard(f"name{n}*")},
        lambda n: {"PatientName": WildCard(f"*^{n}abc?^z*")},
        lambda n: {"PatientName": SingleValue(f"NAME{n}^{n}abcd^z")},
        lambda n: {"PatientID": SingleValue(f"P{n}"), "PatientBirthDate": Range(f"200{n}0101", f"200{n}1231")},
        lambda n: {"NumberOfPatientRelatedStudies": SingleValue("1"), "PatientID": WildCard(f"?{n}")},
    ],
)
def test_queries_that_differ_in_their_values_share_a_statement(shared_index, level, asked):
    with filling(shared_index) as enter:
        for n in range(4):
            name = f"Name{n}^{n}abcd^z"
            enter(version(f"{n}", f"{n}", f"{n}", PatientID=f"P{n}", PatientName=name, PatientBirthDate=f"200{n}0505"))
    prepared = [select.prepare(query(level, "PatientID", **asked(n)), shared_index._database.dialect) for n in range(4)]
    assert len({id(each.statement) for each in prepared}) == 1
    for n in range(4):
        assert [a["PatientID"] for a in answers(shared_index, level, "PatientID", **asked(n))] == [f"P{n}"]


def test_a_query_with_other_keys_has_a_statement_of_its_own(shared_index):
    by_study = {"StudyInstanceUID": SingleValue("1"), "PatientID": SingleValue("P")}
    asked = [
        query(Level.SERIES, **by_study),
        query(Level.SERIES, PatientID=SingleValue("P")),
        query(Level.SERIES, PatientID=WildCard("P*")),
        query(Level.IMAGE, **by_study),
        query(Level.SERIES, "Modality", **by_study),
    ]
    dialect = shared_index._database.dialect
    statements = [select.prepare(each, dialect).statement for each in asked for _ in range(2)]
    assert len(set(map(id, statements))) == len(asked)


@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE])
def test_retrieves_that_differ_in_their_values_share_a_statement(shared_index, level):
    keys = [unique.keyword for at, unique in UNIQUE_KEY.items() if at.depth <= level.depth]
    with filling(shared_index) as enter:
        for n in range(4):
            enter(version(f"{n}", f"{n}", f"{n}", PatientID=f"{n}"))
    asked = [query(level, **dict.fromkeys(keys, SingleValue(f"{n}"))) for n in range(4)]
    prepared = [select.retrieve(each, shared_index._database.dialect) for each in asked]
    assert len({id(each.statement) for each in prepared}) == 1
    for n, each in enumerate(asked):
        assert [held.sop_instance_uid for held in shared_index.retrieve(each)] == [f"{n}"]


def test_statements_are_remembered_up_to_a_limit(shared_index, monkeypatch):
    monkeypatch.setattr(select, "_MOST_STATEMENTS", 3)
    monkeypatch.setattr(select, "_statements", {})
    for keyword in ("PatientID", "StudyID", "AccessionNumber", "StudyDate", "StudyTime"):
        select.prepare(query(Level.STUDY, **{keyword: SingleValue("1")}), shared_index._database.dialect)
        assert len(select._statements) <= 3
