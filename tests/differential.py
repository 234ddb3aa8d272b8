"""Archives and Identifiers drawn at random, adversarial ones preferred, and how to encode them."""

from __future__ import annotations

import io
import random
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache

from pydicom.charset import convert_encodings, encode_string
from pydicom.config import IGNORE, RAISE, settings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, Attribute, Level
from backup_scp.dicom.query.information_model import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT, InformationModel
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.ports import Arrival, Version
from tests.differential_values import CHARACTER_SETS, OF_VR, RANGES, TEXTS
from tests.differential_values import KEYS as ODD_KEYS
from tests.dimse.wire import encoded as encoded_by_pydicom
from tests.elements import BIG_ENDIAN, EXPLICIT, IMPLICIT
from tests.index.examples import MORNING

SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
NEGOTIABLE = ("date_time", "fuzzy_names", "empty_values", "multiple_values")
MODELS = (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.88.67")
SEVERAL = ("OtherPatientIDs", "NameOfPhysiciansReadingStudy", "OperatorsName", "PerformingPhysicianName", "ImageType")
KEYS = tuple(a for a in ATTRIBUTES if a.vr != "SQ" and a.keyword != "TimezoneOffsetFromUTC")  # that one is no key


# ------------------------------------------------------------------------------------------------------------- archives


def archive(chance: random.Random, patients: int = 30) -> list[dict[str, str]]:
    """Draw instances, in the order of their arrival, as text by keyword; and their Specific Character Set."""
    instances: list[dict[str, str]] = []
    for p in range(patients):
        draw = Draw(chance, chance.choice(CHARACTER_SETS))
        patient = draw.values(Level.PATIENT)
        patient["PatientID"] = chance.choice([f"P{p}", f"P{p}", draw.value(BY_KEYWORD["PatientID"])])
        for s in range(chance.choice([1, 1, 1, 2, 3])):
            study = {**patient, **draw.values(Level.STUDY)}
            study["StudyInstanceUID"] = chance.choice([f"1.{p}.{s}"] * 9 + ["", "1.0.0"])
            for e in range(chance.choice([1, 1, 2])):
                series = {**study, **draw.values(Level.SERIES)}
                series["SeriesInstanceUID"] = chance.choice([f"2.{p}.{s}.{e}"] * 9 + [""])
                for i in range(chance.choice([1, 1, 2, 3])):
                    instance = {**series, **draw.values(Level.IMAGE)}
                    instance |= {"SOPInstanceUID": f"3.{p}.{s}.{e}.{i}", "SOPClassUID": chance.choice(SOP_CLASSES)}
                    instances.append(draw.changed(instance) | {"SpecificCharacterSet": draw.character_set})
    return instances


@dataclass(frozen=True)
class Draw:
    """Draws values that one Specific Character Set can hold."""

    chance: random.Random
    character_set: str = "ISO_IR 192"

    def value(self, attribute: Attribute) -> str:
        values = OF_VR.get(attribute.vr, TEXTS)
        number = self.chance.choice([1, 1, 2, 3]) if attribute.keyword in SEVERAL else 1
        drawn = (self.chance.choice(values) for _ in range(number))
        return "\\".join(text if writable(text, attribute.vr, self.character_set) else "" for text in drawn)

    def values(self, level: Level) -> dict[str, str]:
        own = [a for a in KEYS if a.level is level and not a.computed and a.vr != "UI"]
        return {a.keyword: self.value(a) for a in own if self.chance.random() < 0.7}

    def changed(self, instance: dict[str, str]) -> dict[str, str]:
        """Instances of one study seldom disagree about it."""
        for attribute in KEYS:
            if self.chance.random() < 0.02 and not attribute.computed and attribute.vr != "UI":
                instance[attribute.keyword] = self.chance.choice(["", self.value(attribute)])
        return instance


def versions(chance: random.Random, instances: Iterable[dict[str, str]]) -> list[Version]:
    """Encode each with pydicom, and read it as the node does."""
    found = []
    for number, instance in enumerate(instances):
        syntax, values = chance.choice(SYNTAXES), dict(instance)
        character_set = values.pop("SpecificCharacterSet")
        read = SOPInstance.read(io.BytesIO(encoded(values, syntax, character_set)), syntax)
        arrival = Arrival(MORNING + timedelta(seconds=number), "C-STORE", "DR1", "BACKUP_SCP", "192.0.2.7")
        found.append(Version(read, arrival, f"{number}.dcm", f"{number:064x}", 1000))
    return found


# ---------------------------------------------------------------------------------------------------------- Identifiers


@dataclass(frozen=True)
class Asked:
    """One Identifier: its keys as text by keyword, empty for return keys."""

    model: InformationModel
    level: Level
    keys: dict[str, str]
    negotiated: frozenset[str]
    character_set: str
    transfer_syntax: str

    @property
    def encoded(self) -> bytes:
        return encoded(self.keys, self.transfer_syntax, self.character_set, self.level)

    def without(self, keyword: str) -> Asked:
        return replace(self, keys={k: v for k, v in self.keys.items() if k != keyword})


def asked(
    chance: random.Random,
    row: Mapping[str, str],
    model: InformationModel | None = None,
    negotiated: frozenset[str] | None = None,
) -> Asked:
    """Draw an Identifier; most of its keys have values of one row."""
    model = model or chance.choice(MODELS)
    keys = {a.keyword: "" for a in chance.sample(KEYS, chance.randrange(5))}
    for attribute in chance.choices(KEYS, _WEIGHTS, k=chance.choice([1, 1, 1, 2, 2, 3, 5])):
        stored = row[attribute.keyword] if chance.random() < 0.8 else _any_value(chance, attribute, row)
        keys[attribute.keyword] = key(chance, attribute, stored)
    if negotiated is None:
        negotiated = some_negotiated(chance)
    return Asked(model, chance.choice(model.levels), keys, negotiated, fitting(chance, keys), chance.choice(SYNTAXES))


_WEIGHTS = [4 if attribute.kind != "optional" else 1 for attribute in KEYS]


def some_negotiated(chance: random.Random) -> frozenset[str]:
    return frozenset(name for name in NEGOTIABLE if chance.random() < 0.3)


def _any_value(chance: random.Random, attribute: Attribute, row: Mapping[str, str]) -> str:
    return row[attribute.keyword] if attribute.vr == "UI" or attribute.computed else Draw(chance).value(attribute)


def key(chance: random.Random, attribute: Attribute, stored: str) -> str:
    """Make the text of a key of a stored value."""
    if attribute.vr == "US":
        return "\\".join(chance.choice(["512", "1024", "1", stored]) or "1" for _ in range(chance.choice([1, 1, 2])))
    one = chance.choice(stored.split("\\"))
    others = [Draw(chance).value(attribute) for _ in range(3)] if attribute.vr != "UI" else ["1.2", "9", "1.0.0"]
    made = chance.choice(_MUTATIONS)(chance, one, others)
    if attribute.vr in ("DA", "TM") and chance.random() < 0.5:
        made = chance.choice(RANGES).format(one, others[0])
    return made if attribute.vr in _FREE_TEXT or made.isascii() else one


_FREE_TEXT = ("LO", "LT", "PN", "SH")


def _infix(chance: random.Random, one: str, _: list[str]) -> str:
    start = chance.randrange(len(one) + 1)
    return f"*{one[start : start + chance.randrange(1, 12)]}*"


def _marks(chance: random.Random, one: str, _: list[str]) -> str:
    return "".join("?" if chance.random() < 0.3 else c for c in one[:200])


def _stars(chance: random.Random, one: str, _: list[str]) -> str:
    return "".join(
        chance.choice(["*", "*", "**", "*?"]) if chance.random() < 0.2 else c
        for c in one[:200]
        if chance.random() < 0.95
    )


def _trap(chance: random.Random, one: str, _: list[str]) -> str:
    """Replace a character in a pattern by one that is a wild card for a database only."""
    at = chance.randrange(len(one) + 1)
    taken = one[at : at + 1]
    trap = chance.choice(["_", "%", f"[{taken}]", f"[!{taken}]", "[^~]", "!_", "!", "%_"])
    return chance.choice(["*{}", "{}*", "*{}*", "{}"]).format(one[:at] + trap + one[at + 1 :])


_MUTATIONS = (
    lambda _chance, one, _: one,
    lambda _chance, one, _: one,
    lambda _chance, one, _: one.swapcase(),
    lambda _chance, one, _: unicodedata.normalize("NFD", one),
    lambda _chance, one, _: unicodedata.normalize("NFKC", one),
    lambda _chance, one, _: f" {one}  ",
    lambda _chance, one, _: f"{one}^",
    lambda _chance, one, _: f"{one}^*",
    lambda _chance, one, _: f"{one[:-1]}*^*",
    lambda _chance, one, _: f"{one}\\",
    lambda chance, one, _: f"{one[: chance.randrange(len(one) + 1)]}*",
    lambda chance, one, _: f"*{one[chance.randrange(len(one) + 1) :]}",
    lambda _chance, one, _: f"{one}=*",
    lambda _chance, one, _: f"={one}",
    lambda _chance, one, _: " ".join(reversed(one.replace("=", "^").split("^"))),
    lambda chance, one, _: " ".join(word[:3] for word in chance.sample(one.split("^"), one.count("^") + 1)),
    lambda chance, one, others: "\\".join(chance.sample([one, *others], chance.randrange(2, 5))),
    lambda _chance, one, others: f"{one}\\{others[0]}*",
    lambda _chance, _one, others: others[0],
    lambda chance, _one, _: chance.choice(ODD_KEYS),
    *(_infix, _infix, _marks, _stars, _trap, _trap, _trap),
)


# ------------------------------------------------------------------------------------------------------------- encoding


def fitting(chance: random.Random, values: Mapping[str, str]) -> str:
    """Draw a Specific Character Set in which pydicom can write all of them."""
    foreign = [(text, BY_KEYWORD[keyword].vr) for keyword, text in values.items() if not text.isascii()]
    return chance.choice([each for each in CHARACTER_SETS if all(writable(*text, each) for text in foreign)])


_PARTS = {"PN": r"[\\^=]", "LT": r"\Z"}  # what pydicom writes at a time


@lru_cache(maxsize=100_000)
def writable(text: str, vr: str, character_set: str) -> bool:
    """Tell whether pydicom writes it as the standard says; it writes Latin-1 where the default repertoire is."""
    if text.isascii() or character_set == "ISO_IR 192":
        return True
    if character_set.startswith("\\") and re.search("[\x80-\xff]", text):
        return False
    encodings = convert_encodings(character_set.split("\\"))
    before, settings.writing_validation_mode = settings.writing_validation_mode, RAISE
    try:
        with warnings.catch_warnings(action="error"):
            return all(encode_string(part, encodings) for part in re.split(_PARTS.get(vr, r"\\"), text) if part)
    except (UnicodeError, UserWarning):
        return False
    finally:
        settings.writing_validation_mode = before


def encoded(values: Mapping[str, str], syntax: str, character_set: str, level: Level | None = None) -> bytes:
    return encoded_by_pydicom(data_set(values, character_set, level), syntax)


def data_set(values: Mapping[str, str], character_set: str, level: Level | None = None) -> Dataset:
    ds = Dataset()
    if character_set:
        ds.SpecificCharacterSet = character_set.split("\\")
    if level:
        ds.QueryRetrieveLevel = level.value
    for keyword, text in values.items():
        ds[keyword] = _element(BY_KEYWORD[keyword], text)
    return ds


def _element(attribute: Attribute, text: str) -> DataElement:
    """Make an element of any text, right or wrong for its VR."""
    element = DataElement(attribute.tag, attribute.vr, None, validation_mode=IGNORE)
    if attribute.vr == "US":
        element.value = [int(number) for number in text.split("\\") if number] or None
    elif attribute.vr in ("LO", "SH", "PN"):
        element.value = text.split("\\")
    else:
        element._value = text
    return element
