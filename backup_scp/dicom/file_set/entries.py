"""What a File-set says of its images: by patient, study and series, as the records of its DICOMDIR."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

from backup_scp.dicom.file_set.directory_keys import Value, image_keys, keys_of, record_type
from backup_scp.dicom.sop_instance import SOPInstance

DICOMDIR = "DICOMDIR"
"""The name of the file that names the others (PS3.10 8.6)."""

_DATE = re.compile(r"((?:19|20)[0-9]{2})[.]?(0[1-9]|1[0-2])[.]?(0[1-9]|[12][0-9]|3[01])")
_LONG = 20  # digits that no number of an image has

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription")
_SERIES = ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined")


class Patient(NamedTuple):
    """Values of a PATIENT record, Unicode; the site is a clinic: one name and Patient ID in two are two people."""

    name: str
    patient_id: str
    birth_date: str
    sex: str
    site: str = ""


class Study(NamedTuple):
    """Values of a STUDY record."""

    uid: str
    date: str
    time: str
    study_id: str
    accession_number: str
    description: str


class Series(NamedTuple):
    """Values of a SERIES record."""

    uid: str
    modality: str
    number: str
    description: str
    body_part: str


class Image(NamedTuple):
    """What is said of one image besides patient, study and series.

    ``record`` is empty when no DICOMDIR names it.  ``location`` is the archive's; empty when UIDs and digest tell it.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    received: str
    version: str
    record: str
    keys: dict[str, Value]
    location: str = ""


class Entry(NamedTuple):
    """One image in a list.

    Attributes
    ----------
    path
        From the folder of the File-set.
    sha256
        Of the whole file.
    patient, study, series
        Values of ``Patient``, ``Study`` and ``Series``.
    """

    path: str
    sha256: str
    patient: Patient
    study: Study
    series: Series
    image: Image


def image_of(
    instance: SOPInstance,
    open_data_set: Callable[[], AbstractContextManager[BinaryIO]],
    transfer_syntax_uid: str,
    received_at: datetime,
    version: str,
) -> Image:
    """Return what is said of one image.

    Parameters
    ----------
    open_data_set
        Opens its Data Set at the first byte.
    transfer_syntax_uid
        Of its file.
    received_at
        When it came.
    version
        SHA-256 of its Data Set.
    """
    kind = record_type(instance)
    keys = image_keys(instance)
    if kind not in ("", "IMAGE"):
        with open_data_set() as stream:
            keys = keys_of(kind, instance, stream)
    moment = received_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return Image(instance.sop_class_uid, instance.sop_instance_uid, transfer_syntax_uid, moment, version, kind, keys)


def entry_of(path: str, sha256: str, instance: SOPInstance, image: Image, site: str = "") -> Entry:
    """Return what a File-set says of an image of a site, under its name in it."""
    texts = instance.attributes
    patient, study, series = ([texts.get(keyword, "") for keyword in level] for level in (_PATIENT, _STUDY, _SERIES))
    return Entry(path, sha256, Patient(*patient)._replace(site=site), Study(*study), Series(*series), image)


def sort_key(entry: Entry) -> tuple[object, ...]:
    """Order entries by patient, study, series and number; images of one series may differ in what they say of it."""
    number = entry.image.keys.get("00200013", "")
    position = int(number) if isinstance(number, str) and number.isdecimal() and len(number) < _LONG else 0
    return (*patient_key(entry), entry.study.uid, entry.series.uid, position, entry.path)


def patient_key(entry: Entry) -> tuple[str, str, str]:
    """Return what tells patients apart: two may have one Patient ID by mistake, or because they are of two clinics."""
    return entry.patient.name, entry.patient.patient_id, entry.patient.site


def study_date(text: str) -> tuple[str, str, str] | None:
    """Return year, month and day of a Study Date (also of ACR-NEMA: 2020.01.31); None when it is no date."""
    found = _DATE.fullmatch(text)
    return (found[1], found[2], found[3]) if found else None
