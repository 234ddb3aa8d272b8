"""Names in every script, stored and found with other programs (PS3.3 C.12.1.1.2, PS3.5 Annexes H to K)."""

from __future__ import annotations

import struct
from itertools import zip_longest

import pytest
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from tests.dicom.test_character_set import EXAMPLES
from tests.samples import Sample, dx, encode, with_value
from tests.system import peers
from tests.system.node import Node
from tests.system.pynetdicom_peers import PATIENT_ROOT, find

SECONDARY_CAPTURE, EXPLICIT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.1"
UTF_8, LATIN_1 = "ISO_IR 192", "ISO_IR 100"

# Another set that has the characters of an example: with code extension, without it, or a wider one.
OTHER_SETS = {
    "H.3.1": "ISO 2022 IR 13\\ISO 2022 IR 87",
    "H.3.2": "\\ISO 2022 IR 13\\ISO 2022 IR 87",
    "I.2": "ISO 2022 IR 100\\ISO 2022 IR 149",
    "J.1": "GB18030",
    "J.3": "GBK",
    "J.4": "\\ISO 2022 IR 58",
    "K.2": "GB18030",
    "Greek": "\\ISO 2022 IR 126",
    "Russian": "\\ISO 2022 IR 144",
    "Arabic": "ISO 2022 IR 127",
    "Hebrew": "ISO 2022 IR 6\\ISO 2022 IR 138",
    "Thai": "\\ISO 2022 IR 166",
    "Turkish": "GB18030",
    "Latin-1": "ISO_IR 148",
    "Latin-2": "\\ISO 2022 IR 101",
    "Latin-3": "\\ISO 2022 IR 109",
    "Latin-4": "\\ISO 2022 IR 110",
    "Latin-9": "\\ISO 2022 IR 203",
    "katakana": "ISO 2022 IR 13\\ISO 2022 IR 87",
    "Latin-1 and Greek": "ISO 2022 IR 126\\ISO 2022 IR 100",
    "JIS X 0212": "\\ISO 2022 IR 159\\ISO 2022 IR 87",
}

# (0008,0005) as declared, bytes, text
WRONGLY_DECLARED = {
    "ISO-IR 100": ("ISO-IR 100", b"M\xfcller^J\xf6rg", "Müller^Jörg"),
    "none, Latin-1": ("", b"B\xf6hm^J\xfcrgen", "Böhm^Jürgen"),
    "none, UTF-8": ("", "Łukasz^Åse".encode(), "Łukasz^Åse"),
    "ISO_IR 100, UTF-8": (LATIN_1, "Weiß^Żaneta".encode(), "Weiß^Żaneta"),
    "ISO_IR 192, Latin-1": (UTF_8, b"G\xf6tz^Ren\xe9", "Götz^René"),
    "empty first value": ("\\ISO_IR 100", b"Gr\xfcn^Zo\xeb", "Grün^Zoë"),
    "utf-8": ("utf-8", "Ωmega^Ñandú".encode(), "Ωmega^Ñandú"),
}

STORED = {**EXAMPLES, **WRONGLY_DECLARED}


def written(name: str) -> Sample:
    """Return an image with the very bytes of an example."""
    character_set, data, _ = STORED[name]
    sample = encode(dx(study=name, PatientID=name, SpecificCharacterSet="XX"))
    sample = with_value(sample, "SpecificCharacterSet", padded(character_set.encode()))
    return with_value(sample, "PatientName", padded(data))


def padded(data: bytes) -> bytes:
    return data + b" " * (len(data) % 2)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return a running node to which storescu has sent every example; no test here adds to it."""
    folder = tmp_path_factory.mktemp("names")
    node = Node(folder / "node")
    node.start()
    for number, name in enumerate(STORED):
        written(name).write(folder / "files" / f"{number}.dcm")
    peers.storescu(node, folder / "files")
    yield node
    node.close()


def query(character_set: str, name: bytes) -> Sample:
    """Return an Identifier at PATIENT level that asks for a name with these bytes."""
    elements = [
        (0x0008, 0x0005, b"CS", character_set.encode()),
        (0x0008, 0x0052, b"CS", b"PATIENT"),
        (0x0010, 0x0010, b"PN", name),
        (0x0010, 0x0020, b"LO", b""),
    ]
    encoded = b"".join(
        struct.pack("<HH2sH", group, element, vr, len(padded(value))) + padded(value)
        for group, element, vr, value in elements
    )
    return Sample("query", SECONDARY_CAPTURE, "1.2.3", EXPLICIT, encoded)


def declared(answer: Dataset) -> str:
    """Return the Specific Character Set of an answer."""
    value = answer.get("SpecificCharacterSet", "")
    return value if isinstance(value, str) else "\\".join(value)


def encoded(text: str, character_set: str) -> bytes:
    """Encode a name with pydicom, which shares nothing with the node; of ISO_IR 203 it does not know."""
    if "203" in character_set:
        return b"\x1b-b" + text.encode("iso8859_15")
    return bytes(PersonName(text).encode(convert_encodings(character_set.split("\\"))))


def name_bytes(answer: Dataset) -> bytes:
    """Return the received bytes of a name without padding; pydicom keeps them until the name is decoded."""
    raw = answer.get_item("PatientName")
    assert isinstance(raw, RawDataElement)
    return (raw.value or b"").rstrip(b" ")


def name_of(answer: Dataset) -> str:
    """Decode the name with pydicom; it leaves a sequence of ISO 2022 IR 58 in the text. Trailing delimiters go."""
    character_set, data = declared(answer), name_bytes(answer)
    if "203" in character_set:
        return data.replace(b"\x1b-b", b"").decode("iso8859_15")
    text = str(PersonName(data, convert_encodings(character_set.split("\\"))))
    return text.replace("\x1b$)A", "").rstrip("=")


def named(text: str) -> set[str]:
    """Return the names that equal the key in each of its non-empty component groups."""
    asked = text.split("=")
    groups = {name: stored.split("=") for name, (_, _, stored) in STORED.items()}
    return {n for n, held in groups.items() if all(a == b for a, b in zip_longest(asked, held, fillvalue="") if a)}


def names_of(answers) -> dict[str, str]:
    return {str(answer.PatientID): name_of(answer) for answer in answers}


TEXTS = {name: text.rstrip("=") for name, (_, _, text) in STORED.items()}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("asked_in", ["the same set", "UTF-8", "another set"])
def test_a_name_is_found_and_answered_in_the_set_of_the_request(archive, tmp_path, name, asked_in):
    character_set, data, text = EXAMPLES[name]
    if asked_in != "the same set":
        character_set = UTF_8 if asked_in == "UTF-8" else OTHER_SETS[name]
        data = encoded(text, character_set)

    answers = peers.findscu_with(
        archive, query(character_set, data).write(tmp_path / "query.dcm"), model=peers.PATIENT_ROOT
    )

    assert names_of(answers) == {one: TEXTS[one] for one in named(text)}
    (answer,) = [one for one in answers if one.PatientID == name]
    assert declared(answer) == character_set
    assert asked_in != "the same set" or name_bytes(answer) == data


@pytest.mark.parametrize("character_set", ["", LATIN_1, UTF_8, "GB18030", r"\ISO 2022 IR 87", "ISO_IR 126", "nonsense"])
def test_every_name_is_answered_in_a_set_that_holds_it(archive, tmp_path, character_set):
    """The requester's set where it can, else UTF-8, and none for ASCII; never a set that is not true."""
    answers = peers.findscu_with(
        archive, query(character_set, b"*").write(tmp_path / "query.dcm"), model=peers.PATIENT_ROOT
    )

    assert names_of(answers) == TEXTS
    assert {declared(answer) for answer in answers} <= {character_set, UTF_8} - {"nonsense", ""}
    assert character_set in {"", "nonsense"} or character_set in {declared(answer) for answer in answers}


@pytest.mark.parametrize("name", WRONGLY_DECLARED)
@pytest.mark.parametrize("character_set", [UTF_8, LATIN_1, "ISO-IR 100", r"\ISO 2022 IR 100", "ISO_IR 144", ""])
def test_a_name_in_a_set_declared_wrongly_is_found(archive, tmp_path, name, character_set):
    codec = {UTF_8: "utf_8", "ISO_IR 144": "ascii", "": "ascii"}.get(character_set, "latin_1")
    family = TEXTS[name].partition("^")[0].encode(codec, "replace")  # what it does not have becomes a wild card

    answers = peers.findscu_with(
        archive, query(character_set, family + b"*").write(tmp_path / "query.dcm"), model=peers.PATIENT_ROOT
    )

    assert names_of(answers)[name] == TEXTS[name]


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_pynetdicom_reads_the_name_at_every_level(archive, level, name):
    keys = {"SpecificCharacterSet": UTF_8, "PatientID": name, "PatientName": TEXTS[name]}

    found = find(archive, level, keys, model=PATIENT_ROOT)

    assert [str(match.PatientName) for match in found.matches] == [TEXTS[name]]
    assert {declared(match) for match in found.matches} == {UTF_8}


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [
        ("Latin1", "latin_1"),
        ("Utf8", "utf_8"),
        ("Greek", "iso8859_7"),
        ("Cyrillic", "iso8859_5"),
        ("Chinese", "gb18030"),
    ],
)
def test_orthanc_reads_every_name_that_it_can_hold(archive, start_orthanc, encoding, codec):
    """It asks in the set that it is set to, and decodes each answer by the set that the answer declares."""
    orthanc = start_orthanc(DefaultEncoding=encoding)
    orthanc.add_modality(archive.remote)

    _, patients = orthanc.find("backup_scp", "Patient", {"PatientID": "", "PatientName": ""})

    answered = {answer["PatientID"]: answer["PatientName"].rstrip("=") for answer in patients}
    held = {name: text for name, text in TEXTS.items() if text.encode(codec, "ignore").decode(codec) == text}
    assert len(answered) == len(TEXTS)
    assert {name: answered[name] for name in held} == held


def test_orthanc_finds_names_that_it_asks_for_in_utf_8(archive, start_orthanc):
    orthanc = start_orthanc(DefaultEncoding="Utf8")
    orthanc.add_modality(archive.remote)

    for name, text in TEXTS.items():
        _, patients = orthanc.find("backup_scp", "Study", {"PatientName": text, "PatientID": ""})
        assert name in {answer["PatientID"] for answer in patients}, name
