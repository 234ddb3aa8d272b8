"""The lists of checksums on a drive, which ``sha256sum -c`` reads; comment lines in them hold what DICOMDIRs say.

``SHA256.TXT`` in the folder of each month names its files by their path from the drive's folder.  Lines that begin with
``#`` are comments to sha256sum: patient, study, series and image of the next file, in JSON.  Equal patients, studies or
series in a row are written once.  A list is never appended to: it is written beside, flushed, and renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from backup_scp.dicom import file_set
from backup_scp.dicom.file_set import Entry, Image, Patient, Series, Study
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.ports import ArchivedFile

MANIFEST = "SHA256.TXT"
LIST = "LIST.TXT"


def image_of(instance: SOPInstance, file: ArchivedFile) -> Image:
    """Return what a list says of an image of the archive."""
    image = file_set.image_of(
        instance, file.data_set, file.heading.transfer_syntax_uid, file.arrival.received_at, file.sha256
    )
    if file.arrival.site:  # two sites may have the same bytes, each a file of its own
        return image._replace(location=file.location)
    return image


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
