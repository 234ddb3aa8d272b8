"""The lists of checksums on a drive, which ``sha256sum -c`` reads; comment lines in them hold what DICOMDIRs say.

``SHA256.TXT`` in the folder of each month names its files by their path from the drive's folder.  Lines that begin with
``#`` are comments to sha256sum: patient, study, series and image of the next file, in JSON.  Equal patients, studies or
series in a row are written once.  A list is never appended to: it is written beside, flushed, and renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import NamedTuple

from backup_scp.copies.drive.directory_keys import Value, image_keys, keys_of, record_type
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.ports import ArchivedFile

MANIFEST = "SHA256.TXT"
LIST = "LIST.TXT"
DICOMDIR = "DICOMDIR"

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
        From the drive's folder.
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


def image_of(instance: SOPInstance, file: ArchivedFile) -> Image:
    """Return what a list says of an image."""
    kind = record_type(instance)
    keys = image_keys(instance)
    if kind not in ("", "IMAGE"):
        with file.data_set() as stream:
            keys = keys_of(kind, instance, stream)
    moment = file.arrival.received_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    uids = (instance.sop_class_uid, instance.sop_instance_uid, file.heading.transfer_syntax_uid)
    location = file.location if file.arrival.site else ""  # two sites may have the same bytes, each a file of its own
    return Image(*uids, moment, file.sha256, kind, keys, location)


def entry_of(path: str, sha256: str, instance: SOPInstance, image: Image, site: str = "") -> Entry:
    """Return the line of a site's image under its name on the drive."""
    texts = instance.attributes
    patient, study, series = ([texts.get(keyword, "") for keyword in level] for level in (_PATIENT, _STUDY, _SERIES))
    return Entry(path, sha256, Patient(*patient)._replace(site=site), Study(*study), Series(*series), image)


def encode(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Encode a list, some lines at a time."""
    before: tuple[object, ...] = ()
    for entry in entries:
        patient = entry.patient if entry.patient.site else entry.patient[:-1]  # as before there were sites
        levels = (patient, entry.study, entry.series)
        changed = [
            f"#{mark} {_json(level)}\n" for mark, level in zip("PTS", levels, strict=True) if level not in before
        ]
        before = levels
        image = entry.image if entry.image.location else entry.image[:-1]
        yield f"{''.join(changed)}#I {_json(image)}\n{entry.sha256}  {entry.path}\n".encode()


def _json(values: object) -> str:
    return json.dumps(values, separators=(",", ":"))


def decode(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Decode a list; patient, study and series are shared by their entries.

    Raises
    ------
    ValueError
        The list is damaged.
    """
    patient, study, series, image = Patient(*[""] * 4), Study(*[""] * 6), Series(*[""] * 5), None
    try:
        for line in lines:
            mark, _, rest = line.decode("utf-8", "surrogatepass").rstrip("\r\n").partition(" ")
            if mark == "#P":
                patient = Patient(*json.loads(rest))
            elif mark == "#T":
                study = Study(*json.loads(rest))
            elif mark == "#S":
                series = Series(*json.loads(rest))
            elif mark == "#I":
                image = Image(*json.loads(rest))
            elif not mark.startswith("#") and image is not None:
                yield Entry(rest.lstrip(" *"), mark, patient, study, series, image)
                image = None
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the list is damaged ({type(error).__name__})") from error


def sort_key(entry: Entry) -> tuple[object, ...]:
    """Order entries by patient, study, series and number; images of one series may differ in what they say of it."""
    number = entry.image.keys.get("00200013", "")
    position = int(number) if isinstance(number, str) and number.isdecimal() and len(number) < _LONG else 0
    return (*patient_key(entry), entry.study.uid, entry.series.uid, position, entry.path)


def patient_key(entry: Entry) -> tuple[str, str, str]:
    """Return what tells patients apart: two may have one Patient ID by mistake, or because they are of two clinics."""
    return entry.patient.name, entry.patient.patient_id, entry.patient.site
