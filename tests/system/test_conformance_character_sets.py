"""Every Specific Character Set that docs/conformance-statement.md lists is read and written by a running node.

That the bytes are those of the standard, ``tests/dicom/test_character_set.py`` says.
"""

from __future__ import annotations

import pytest

from backup_scp.dicom.character_set import UTF_8, decode, parse
from backup_scp.dicom.character_set import encode as encode_text
from tests import statement
from tests.samples import dx, encode, with_value
from tests.system.finder import Finder, elements, tag_of
from tests.system.node import Node
from tests.system.pynetdicom_peers import FIND, STUDY_ROOT

CHARACTER_SET, PATIENT_NAME, PATIENT_ID = map(tag_of, ("SpecificCharacterSet", "PatientName", "PatientID"))

NAMES = {
    "Latin alphabet No. 1": "Buc^Jérôme",
    "Latin alphabet No. 2": "Dvořák^Antonín",
    "Latin alphabet No. 3": "Ĉapek^Ĵo",
    "Latin alphabet No. 4": "Kļaviņš^Jānis",
    "Latin alphabet No. 5": "Çavuş^Ağa",
    "Latin alphabet No. 9": "Œuvre^Žan",
    "Cyrillic": "Люкceмбypг^Анна",
    "Arabic": "قباني^لنزار",
    "Greek": "Διονυσιος^Α",
    "Hebrew": "שרון^דבורה",
    "Thai": "ประเทศ^ไทย",
    "Japanese, JIS X 0201: katakana and romaji": "ﾔﾏﾀﾞ^ﾀﾛｳ",
    "Japanese, JIS X 0208: kanji": "Yamada^Tarou=山田^太郎",
    "Japanese, JIS X 0212: supplementary kanji": "Uchi^Da=丂^丄",
    "Korean, KS X 1001: hangul and hanja": "Hong^Gildong=洪^吉洞=홍^길동",
    "Simplified Chinese, GB 2312": "Zhang^XiaoDong=张^小东",
    "Simplified Chinese, GBK": "Wang^XiaoDong=王^小东",
    "Chinese, GB 18030": "Wang^XiaoDong=王^小东",
    "Unicode in UTF-8": "Wang^Łukasz=王^小东=שרון",
}
CHARACTER_SETS = [
    (row["Repertoire"], term)
    for row in statement.table("Specific Character Sets")
    for term in (row["Without code extension"], row["With code extension"])
    if term != "-" and row["Repertoire"] != "default repertoire"
]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("character_sets") / "node")
    node.start()
    yield node
    node.close()


@pytest.mark.parametrize(("repertoire", "term"), CHARACTER_SETS)
def test_a_name_in_each_set_is_found_in_its_own_and_in_utf_8_and_answered_in_either(node, repertoire, term):
    name, patient = NAMES[repertoire], f"N{CHARACTER_SETS.index((repertoire, term))}"
    declared = f"\\{term}" if term.startswith("ISO 2022") else term
    image = encode(dx(study=patient, PatientID=patient, SpecificCharacterSet="X"))
    image = with_value(image, "SpecificCharacterSet", padded(declared.encode()))
    image = with_value(image, "PatientName", padded(written(name, declared)))
    assert node.send([image])[0].status == 0

    for asked_in in (declared, UTF_8):
        keys = {CHARACTER_SET: asked_in.encode(), PATIENT_NAME: written(name, asked_in), PATIENT_ID: patient.encode()}
        with Finder(node, STUDY_ROOT + FIND) as finder:
            _, (answer,) = finder.ask("STUDY", keys)
        found = elements(answer)

        assert parse(found[CHARACTER_SET]) == parse(asked_in)
        assert decode(found[PATIENT_NAME], parse(asked_in), "PN").rstrip() == name


def written(name: str, character_set: str) -> bytes:
    value, true = encode_text(name, parse(character_set))
    assert true == character_set
    return value


def padded(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)
