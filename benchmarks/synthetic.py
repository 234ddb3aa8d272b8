"""Studies of nobody: names in many scripts, ten years of dates, the same for the same number on every machine."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, date, datetime, timedelta

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.ports import Arrival, Version

INSTANCES = 3
FIRST_DAY = date(2015, 1, 1)
DAYS = 3653

DX = "1.2.840.10008.5.1.4.1.1.1.1"
_KINDS = (
    ("DX", DX, "Digital Radiography", ("CHEST", "HAND", "KNEE", "SKULL", "PELVIS")),
    ("CR", "1.2.840.10008.5.1.4.1.1.1", "Computed Radiography", ("CHEST", "FOOT", "ELBOW")),
    ("CT", "1.2.840.10008.5.1.4.1.1.2", "Computed Tomography", ("HEAD", "ABDOMEN", "CHEST")),
    ("MG", "1.2.840.10008.5.1.4.1.1.1.2", "Mammography", ("BREAST",)),
)
_ROOT = "1.2.826.0.1.3680043.10.1337"
_GIVEN = (
    "JAMES",
    "MARY",
    "ROBERT",
    "PATRICIA",
    "JOHN",
    "JENNIFER",
    "MICHAEL",
    "LINDA",
    "DAVID",
    "ELIZABETH",
    "WILLIAM",
    "BARBARA",
    "RICHARD",
    "SUSAN",
    "JOSEPH",
    "JESSICA",
    "THOMAS",
    "SARAH",
    "CHARLES",
    "KAREN",
    "JÖRG",
    "ZOË",
    "FRANÇOISE",
    "ÅSE",
    "IÑIGO",
    "MARKÉTA",
    "ŁUKASZ",
    "MAÏTÉ",
)
_FAMILY = (
    "SMITH",
    "JOHNSON",
    "WILLIAMS",
    "BROWN",
    "JONES",
    "GARCIA",
    "MILLER",
    "DAVIS",
    "WILSON",
    "ANDERSON",
    "TAYLOR",
    "MOORE",
    "JACKSON",
    "MARTIN",
    "LEE",
    "THOMPSON",
    "WHITE",
    "HARRIS",
    "CLARK",
    "LEWIS",
    "WALKER",
    "HALL",
    "YOUNG",
    "KING",
    "WRIGHT",
    "HILL",
    "GREEN",
    "ADAMS",
    "BAKER",
    "NELSON",
    "MÜLLER",
    "SCHÄFER",
    "LEFÈVRE",
    "GARÇON",
    "NÚÑEZ",
    "SØRENSEN",
    "ÅKERSTRÖM",
    "DVOŘÁK",
    "WAŁĘSA",
    "ŐRY",
    "YILDIRIM",
)
_SYLLABLES = tuple(first + vowel + last for first in "BCDFGHKLMNPRSTVZ" for vowel in "AEIOU" for last in "LMNRST")
_OTHER_SCRIPTS = (
    "YAMADA^TAROU=山田^太郎=ヤマダ^タロウ",
    "SATOU^HANAKO=佐藤^花子=さとう^はなこ",
    "HONG^GILDONG=洪^吉洞=홍^길동",
    "WANG^XIAODONG=王^小东",
    "ИВАНОВ^ИВАН",
    "ΔΙΟΝΥΣΙΟΣ^ΝΙΚΟΣ",
    "قباني^لنزار",
    "שרון^דבורה",
    "ใจดี^สมชาย",
)


def study(number: int) -> list[Version]:
    """Make the versions of one study: one series, three instances."""
    chance = random.Random(number)
    kind, sop_class, text, parts = chance.choice(_KINDS)
    begun = datetime(FIRST_DAY.year, 1, 1, tzinfo=UTC) + timedelta(
        days=chance.randrange(DAYS), seconds=chance.randrange(24_000, 72_000)
    )
    part, uid = chance.choice(parts), f"{_ROOT}.{begun:%Y%m%d%H%M%S}.{number}"
    values = {
        **_patient(number - number % 3),
        **_dates(begun),
        "AccessionNumber": f"A{chance.randrange(10**9):09}",
        "StudyID": str(number),
        "StudyDescription": f"{text} {part}",
        "ReferringPhysicianName": f"{chance.choice(_FAMILY)}^{chance.choice(_GIVEN)}^^DR",
        "PatientAge": f"{chance.randrange(99):03}Y",
        "Modality": kind,
        "SeriesNumber": "1",
        "SeriesDescription": part,
        "BodyPartExamined": part,
        "InstitutionName": f"Clinic {chance.randrange(20)}",
        "StationName": f"{kind}{chance.randrange(9)}",
        "Manufacturer": "ACME",
        "ImageType": "ORIGINAL\\PRIMARY",
        "Rows": "2048",
        "Columns": "2048",
        "BitsAllocated": "16",
    }
    return [_version(uid, sop_class, n, values, begun + timedelta(minutes=n)) for n in range(1, INSTANCES + 1)]


def _patient(number: int) -> dict[str, str]:
    """Most patients have three studies."""
    chance = random.Random(-1 - number)
    return {
        "PatientID": f"{number:08}",
        "PatientName": _name(chance),
        "PatientBirthDate": f"{FIRST_DAY - timedelta(days=chance.randrange(30_000)):%Y%m%d}",
        "PatientSex": chance.choice("FFFMMMO"),
    }


def _name(chance: random.Random) -> str:
    """One in ten is written in another script, most have a rare family name, one in twenty a common one."""
    drawn = chance.random()
    if drawn < 0.1:
        return chance.choice(_OTHER_SCRIPTS)
    rare = drawn < 0.95
    family = "".join(chance.choices(_SYLLABLES, k=3)) if rare else chance.choice(_FAMILY)
    return f"{family}^{chance.choice(_GIVEN)}" + (f"^{chance.choice(_GIVEN)[0]}" if drawn < 0.5 else "")


def _dates(begun: datetime) -> dict[str, str]:
    day, time = f"{begun:%Y%m%d}", f"{begun:%H%M%S}"
    dated = ("Study", "Series", "Content", "Acquisition")
    return {f"{of}Date": day for of in dated} | {f"{of}Time": time for of in dated}


def _version(uid: str, sop_class: str, number: int, values: dict[str, str], at: datetime) -> Version:
    sop = f"{uid}.1.{number}"
    sha256 = hashlib.sha256(sop.encode()).hexdigest()
    attributes = {**values, "InstanceNumber": str(number)}
    return Version(
        SOPInstance(sop_class, sop, "1.2.840.10008.1.2.1", uid, f"{uid}.1", attributes),
        Arrival(at, "C-STORE", f"{values['Modality']}1", "BACKUP_SCP", "192.0.2.7"),
        f"{sha256[:2]}/{sha256}.dcm",
        sha256,
        8_000_000 + number,
    )
