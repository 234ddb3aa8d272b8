"""Name the folders and files of a drive: valid DICOM File IDs (PS3.10 8.2) that people understand.

``2026/11/DOE_JOHN/15_7KQ2M/CT_4F0ZA/0012_9XW``: year and month of the study, patient, day and study, modality and
series, number of the image.  Of a named clinic the patient's folder ends in two digits of it: ``DOE_J_9F``.  The digits
behind the last underscores come from digests of UIDs, so that names need no index: the same version has the same name,
on each drive and after each rebuild.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

from backup_scp.dicom.file_set import study_date
from backup_scp.dicom.sop_instance import SOPInstance

MOST_NAMES = 16
"""How many names one version may have, because the ones before are taken by other bytes."""

NO_DATE = "NO_DATE"
"""The year's folder of images without a valid Study Date; below it is the month in which they were received."""

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O, U: nobody takes them for 1, 0 or V
_LONGEST = 8
_FAMILY = 6
_OF_SITE = 2
_TAKEN = frozenset(
    {"CON", "PRN", "AUX", "NUL", "DICOMDIR"}  # devices of Windows; the file that viewers open
    | {f"{device}{number}" for device in ("COM", "LPT") for number in range(10)}
)


def month_of(path: str) -> str:
    """Return the folder of the month, which has DICOMDIR and lists: the first two components."""
    return "/".join(path.split("/", 2)[:2])


def folder_of(instance: SOPInstance, received_at: datetime, site: str = "") -> str:
    """Return the folder of an image of a site, relative to the drive's folder: two sites share no study's folder."""
    values = instance.attributes
    date = study_date(values.get("StudyDate", ""))
    year, month, day = date or (NO_DATE, f"{received_at.astimezone(UTC):%Y%m}", "00")
    of_study = f"{instance.study_instance_uid}\n{site}" if site else instance.study_instance_uid
    study = f"{day}_{_digest(of_study, 5)}"
    series = f"{_letters(values.get('Modality', ''))[:2] or 'OT'}_{_digest(instance.series_instance_uid, 5)}"
    patient = patient_folder(values.get("PatientName", ""), values.get("PatientID", ""))
    if site:
        patient = f"{patient[: _LONGEST - _OF_SITE - 1].rstrip('_')}_{_digest(site, _OF_SITE)}"
    return f"{year}/{month}/{patient}/{study}/{series}"


def patient_folder(name: str, patient_id: str) -> str:
    """Return up to eight letters of the name, else of the Patient ID; patients may share a folder."""
    for group in name.split("="):  # alphabetic, ideographic, phonetic (PS3.5 6.2.1)
        family, _, others = group.partition("^")
        family, given = _letters(family), _letters(others.partition("^")[0])
        if family and given:
            family = family[:_FAMILY]
            return f"{family}_{given}"[:_LONGEST]
        if family or given:
            return _free((family or given)[:_LONGEST])
    known = _letters(patient_id)
    return f"ID_{known[-5:]}" if known else "NO_NAME"


def file_names(instance: SOPInstance, sha256_hex: str) -> Iterator[str]:
    """Yield the names of a version in its folder; a further one is for the case that the ones before are taken.

    Parameters
    ----------
    sha256_hex
        Of its Data Set.
    """
    number = instance.attributes.get("InstanceNumber", "")
    seed = f"{instance.sop_instance_uid}\n{sha256_hex}"
    if number.isdecimal() and number.isascii() and int(number) <= 9999:
        yield f"{int(number):04}_{_digest(seed, 3)}"
    for attempt in range(MOST_NAMES):
        yield "I" + _digest(f"{seed}\n{attempt}", 7)


def _letters(text: str) -> str:
    """Return its letters A-Z and digits, in capitals; without accents, and nothing of other scripts."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ø", "o").replace("Ø", "O"))
    return re.sub(r"[^A-Z0-9]", "", plain.upper())


def _free(name: str) -> str:
    return f"{name[: _LONGEST - 1]}_" if name in _TAKEN else name


def _digest(text: str, digits: int) -> str:
    number = int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return "".join(_DIGITS[number >> 5 * position & 31] for position in range(digits))
