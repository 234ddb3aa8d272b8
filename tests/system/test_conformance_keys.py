"""Every key in docs/conformance-statement.md is matched and returned as it says; other keys are not.

Three patients: ALPHA and BETA have a value in every attribute, and no value in common; EMPTY has none but its UIDs.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from tests import statement
from tests.samples import encode, replace, uid
from tests.system.finder import Finder, data_set, elements, tag_of, text
from tests.system.node import Node
from tests.system.pynetdicom_peers import FIND, PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT

MODELS = {"Patient Root": PATIENT_ROOT, "Study Root": STUDY_ROOT, "Patient/Study Only (retired)": PATIENT_STUDY_ONLY}
PIXEL_DATA_GROUP = 0x7FE00000
LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
UNIQUE = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}

# Of ALPHA, of BETA, and of nobody: in this order, so that a range can divide them.
VALUES = {
    "AS": ("011Y", "022Y", "033Y"),
    "CS": ("ALPHA", "BETA", "GAMMA"),
    "DA": ("20200101", "20210202", "20220303"),
    "DS": ("1.5", "2.5", "3.5"),
    "IS": ("11", "22", "33"),
    "LO": ("Alpha one", "Beta two", "Gamma three"),
    "LT": ("Alpha one", "Beta two", "Gamma three"),
    "PN": ("Alpha^Ann", "Beta^Bob", "Gamma^Gus"),
    "SH": ("Alpha", "Beta", "Gamma"),
    "TM": ("101010", "111111", "121212"),
    "UI": ("1.2.11", "1.2.22", "1.2.33"),
    "US": ("11", "22", "33"),
}
# What the index derives from one instance of ALPHA, and from two studies of BETA with two series of two images each.
DERIVED = {
    "NumberOfPatientRelatedStudies": ("1", "2", "1"),
    "NumberOfPatientRelatedSeries": ("1", "4", "1"),
    "NumberOfPatientRelatedInstances": ("1", "8", "1"),
    "NumberOfStudyRelatedSeries": ("1", "2", "1"),
    "NumberOfStudyRelatedInstances": ("1", "4", "1"),
    "NumberOfSeriesRelatedInstances": ("1", "2", "1"),
    "ModalitiesInStudy": ("ALPHA", "BETA", ""),
    "SOPClassesInStudy": (DigitalXRayImageStorageForPresentation, CTImageStorage, CTImageStorage),
    "SOPClassUID": (DigitalXRayImageStorageForPresentation, CTImageStorage, CTImageStorage),
    "StudyInstanceUID": (uid("alpha"), "", ""),
    "SeriesInstanceUID": (uid("alpha", "1"), "", ""),
    "SOPInstanceUID": (uid("alpha", "1", 1), "", ""),
}
HAS_UID = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}  # also BETA and EMPTY, of no interest
ALPHA, BETA, EMPTY = range(3)
EVERYONE = {ALPHA, BETA, EMPTY}


@dataclass
class Key:
    """A row of the table; the keys of its items, where it is a sequence."""

    level: str
    tag: int
    vr: str
    matching: set[str]
    negotiated: set[str]
    items: list[Key]

    @property
    def keyword(self) -> str:
        return keyword_for_tag(self.tag)

    def value(self, patient: int) -> str:
        if self.keyword in DERIVED:
            return str(DERIVED[self.keyword][patient])
        return "" if patient == EMPTY else VALUES[self.vr][patient]

    def having(self, *values: str) -> set[int]:
        return {patient for patient in EVERYONE if self.value(patient) in values}


@functools.cache
def keys_of(model: str) -> list[Key]:
    keys: list[Key] = []
    for row in statement.table(f"Keys of {model}"):
        tag = int(row["Tag"].strip("()").replace(",", ""), 16)
        key = Key(row["Level"], tag, row["VR"], terms(row["Matching"]), terms(row["If negotiated"]), [])
        (keys[-1].items if row["Attribute"].startswith("> ") else keys).append(key)
    return keys


def terms(cell: str) -> set[str]:
    return set(cell.split(", ")) - {"-"}


# --------------------------------------------------------------------------------------------------------- the archive


# Every other attribute of the standard, for ALPHA: what the node would answer of them, it should list.
FILLING = {
    entry[4]: VALUES[entry[0]][ALPHA]
    for tag, entry in DicomDictionary.items()
    if entry[0] in VALUES and entry[0] != "US" and 0x00080005 < tag < PIXEL_DATA_GROUP
} | {entry[4]: 11 for entry in DicomDictionary.values() if entry[0] == "US"}


@functools.cache
def held() -> list[Dataset]:
    alpha, beta, empty = {}, {}, {}
    for key in keys_of("Patient Root"):
        if key.keyword not in DERIVED:
            alpha[key.keyword], beta[key.keyword], empty[key.keyword] = (held_value(key, p) for p in range(3))
    made = [made_of(FILLING | alpha, "alpha", "1", 1, DERIVED["SOPClassUID"][ALPHA])]
    made += [
        made_of(beta, f"beta.{study}", str(series), image, CTImageStorage)
        for study in (1, 2)
        for series in (1, 2)
        for image in (1, 2)
    ]
    return [*made, made_of(empty, "empty", "1", 1, CTImageStorage)]


def held_value(key: Key, patient: int) -> object:
    if patient == EMPTY:
        return None
    if key.vr == "SQ":
        item = replace(Dataset(), **{inside.keyword: VALUES[inside.vr][patient] for inside in key.items})
        return Sequence([item])
    value = key.value(patient)
    return int(value) if key.vr == "US" else value


def made_of(elements: Mapping[str, object], study: str, series: str, image: int, sop_class: str) -> Dataset:
    ds = replace(Dataset(), **elements)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid(study, series, image)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(study), uid(study, series)
    return ds


def entities(level: str, patients: set[int]) -> set[str]:
    """Return the values that the unique key of a level has in the entities of some patients."""
    return set[str]().union(*(entities_of(level, patient) for patient in patients))


@functools.cache
def entities_of(level: str, patient: int) -> frozenset[str]:
    studies = {uid(name) for name in (("alpha",), ("beta.1", "beta.2"), ("empty",))[patient]}
    return frozenset(str(ds.get(UNIQUE[level]) or "") for ds in held() if ds.StudyInstanceUID in studies)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("keys") / "node")
    node.start()
    assert {answer.status for answer in node.send(map(encode, held()))} == {0}
    yield node
    node.close()


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture
def ask(node, model):
    with Finder(node, MODELS[model] + FIND) as finder:
        yield finder


@pytest.fixture
def ask_negotiated(node, model):
    with Finder(node, MODELS[model] + FIND, b"\1" * 7) as finder:
        yield finder


# ------------------------------------------------------------------------------------------------------------ questions


def found(finder: Finder, level: str, *asked: tuple[Key, str]) -> set[str]:
    """Return the unique keys of the entities that have these values."""
    _, answers = finder.find(level, {key.tag: written(key, value) for key, value in asked})
    return {text(answer, tag_of(UNIQUE[level])) for answer in answers}


def written(key: Key, value: str) -> bytes:
    if key.vr == "US":
        return b"".join(struct.pack("<H", int(number)) for number in value.split("\\") if number)
    return value.encode("ascii")


# ---------------------------------------------------------------------------------------------------------- the answers


def test_the_table_has_a_level_for_each_of_the_model(model):
    levels = [key.level for key in keys_of(model)]

    assert levels == sorted(levels, key=LEVELS.index)
    assert {level for level in LEVELS if level in levels} == set(levels)


def test_every_listed_key_comes_back_with_its_value(ask, model):
    listed = keys_of(model)
    for level in {key.level for key in listed}:
        known = [key for key in listed if LEVELS.index(key.level) <= LEVELS.index(level)]
        statuses, answers = ask.find(level, {key.tag: b"" for key in known})

        assert statuses == {0xFF00}, level
        assert {text(answer, tag_of(UNIQUE[level])) for answer in answers} == entities(level, EVERYONE)
        for patient in EVERYONE:
            of_patient = [a for a in answers if text(a, tag_of(UNIQUE[level])) in entities(level, {patient})]
            assert len(of_patient) == len(entities(level, {patient}))
            for key in known:
                if key.keyword not in HAS_UID and key.vr != "SQ":
                    assert {text(answer, key.tag) for answer in of_patient} == {key.value(patient)}, (level, key)


def test_every_listed_key_matches_as_it_says(ask, model):
    listed = keys_of(model)
    lowest = listed[-1].level
    for key in listed:
        if key.vr == "SQ":
            continue
        alpha, beta, nobody = key.value(ALPHA), key.value(BETA), VALUES[key.vr][2]
        for level in {key.level, lowest}:
            assert found(ask, level, (key, "")) == entities(level, EVERYONE), key
            for value, patients in {alpha: key.having(alpha), nobody: set()}.items():
                wanted = patients if "SINGLE_VALUE" in key.matching else EVERYONE
                assert found(ask, level, (key, value)) == entities(level, wanted), (level, key, value)
        expected = {
            "LIST": {f"{alpha}\\{nobody}": key.having(alpha), f"{alpha}\\{beta}": key.having(alpha, beta)},
            "WILDCARD": {f"{alpha[:-1]}*": {ALPHA}, f"?{alpha[1:]}": {ALPHA}, f"*{nobody[1:]}": set()},
            "RANGE": {f"{alpha}-{alpha}": {ALPHA}, f"-{alpha}": {ALPHA}, f"{beta}-": {BETA}, f"{nobody}-": set()},
        }
        if key.keyword in HAS_UID:  # BETA has several
            del expected["LIST"][f"{alpha}\\{beta}"]
        for term in key.matching & expected.keys():
            for value, patients in expected[term].items():
                assert found(ask, key.level, (key, value)) == entities(key.level, patients), (key, value)


def test_every_listed_key_matches_as_it_says_where_that_is_negotiated(ask, ask_negotiated, model):
    times = {key.keyword: key for key in keys_of(model) if key.vr == "TM"}
    seen = set()
    for key in keys_of(model):
        if key.vr == "SQ":
            continue
        level, alpha, beta = key.level, key.value(ALPHA), key.value(BETA)
        for term in key.negotiated:
            asked, with_it, without = {
                "EMPTY": ([(key, '""')], set() if key.keyword in HAS_UID else key.having(""), set()),
                "ALL_OF": ([(key, f"{alpha}\\{beta}")], set(), {ALPHA, BETA}),
                "FUZZY": ([(key, "an alpha")], {ALPHA}, set()),
                "DATE_TIME": ([(key, "20191231-20200102")], {ALPHA}, set()),
            }[term]
            if term == "DATE_TIME":
                asked.append((times[key.keyword.replace("Date", "Time")], "2300-0100"))
            assert found(ask_negotiated, level, *asked) == entities(level, with_it), (term, key)
            assert found(ask, level, *asked) == entities(level, without), (term, key)
            seen.add(term)
    assert seen == {"EMPTY", "ALL_OF", "FUZZY", "DATE_TIME"}


def test_sequences_match_by_each_key_of_their_items(ask, model):
    for key in keys_of(model):
        for inside in key.items:
            for value, patients in zip(VALUES[inside.vr], ({ALPHA}, {BETA}, set()), strict=True):
                body = data_set({inside.tag: written(inside, value)})
                item = struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
                statuses, answers = ask.find(key.level, {key.tag: item})

                found = {text(answer, tag_of(UNIQUE[key.level])) for answer in answers}
                assert found == entities(key.level, patients), (key, inside, value)
                assert statuses <= {0xFF00}
                for answer in answers:
                    (answered,) = answer[key.tag].value
                    assert text(answered, inside.tag) == value


# Specific Character Set, Query/Retrieve Level, and what the node answers for itself.
ALWAYS_ANSWERED = {0x00080005, 0x00080052, 0x00080053, 0x00080054, 0x00080056}
NOT_LISTED = (0x00091001, 0x00180050, 0x00281050, 0x00102160)


def test_what_is_not_listed_or_is_below_the_level_comes_back_empty_and_does_not_narrow(ask, model):
    listed = keys_of(model)
    assert not {key.tag for key in listed} & set(NOT_LISTED)
    below = 0
    for level in {key.level for key in listed}:
        lower = [key for key in listed if LEVELS.index(key.level) > LEVELS.index(level) and key.vr != "SQ"]
        requests = dict.fromkeys(NOT_LISTED, b"GAMMA") | {key.tag: written(key, VALUES[key.vr][2]) for key in lower}
        for tag, value in requests.items():
            statuses, answers = ask.find(level, {tag: value})

            assert statuses == {0xFF01}, (level, hex(tag))
            assert {text(answer, tag_of(UNIQUE[level])) for answer in answers} == entities(level, EVERYONE)
            assert {text(answer, tag) for answer in answers} == {""}
        below += len(lower)
    assert below


def test_nothing_else_of_the_dictionary_comes_back_with_a_value(ask, model):
    listed = keys_of(model)
    lowest = listed[-1].level
    known = {tag for tag in DicomDictionary if 0x00080000 < tag < PIXEL_DATA_GROUP}
    others = known - {key.tag for key in listed} - ALWAYS_ANSWERED
    assert len(others) > 4000

    statuses, answers = ask.ask(lowest, dict.fromkeys(others, b""))

    assert statuses == {0xFF01}
    for answer in map(elements, answers):
        assert others <= answer.keys()
        assert not any(answer[tag] for tag in others)


def test_what_the_node_answers_for_itself(ask, model):
    rows = statement.table("Keys that are answered for the node")
    tags = {int(row["Tag"].strip("()").replace(",", ""), 16): row["Answer"] for row in rows}
    for level in {key.level for key in keys_of(model)}:
        statuses, answers = ask.find(level, dict.fromkeys(tags, b""))

        assert statuses == {0xFF00}
        for answer in answers:
            assert {tag: text(answer, tag) or "zero length" for tag in tags} == tags
