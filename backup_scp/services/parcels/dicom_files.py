"""Make a ZIP archive that is a DICOM File-set (PS3.10 8, PS3.12 V): a study's files, DICOMDIR, README and digests.

The Data Sets are the stored bytes, in their Transfer Syntax.  File Meta Information is written as for every retrieval:
that of the archive says from where an image came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain

from backup_scp.dicom.file_header import file_header
from backup_scp.dicom.file_meta import Heading
from backup_scp.dicom.file_set import DICOMDIR, Entry, dicomdir, entry_of, image_of
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.machine.digests import Digest
from backup_scp.machine.zip_stream import ZipStream
from backup_scp.ports import StoredVersion
from backup_scp.services.parcels.parcel import Seen, Words
from backup_scp.services.parcels.readme_file import readme_file
from backup_scp.services.verified_files import VerifiedFile

DIGESTS = "SHA256.TXT"


def dicom_files(seen: Seen, held: Sequence[StoredVersion], words: Words) -> Iterator[bytes]:
    """Yield the archive.

    Raises
    ------
    Damaged, ArchiveUnavailable
        An image cannot be read; what was yielded is no whole archive.
    """
    made_at, entries = max(one.received_at for one in held), list[Entry]()
    with ZipStream() as archive:
        yield from readme_file(archive, made_at, words("parcel.readme"))
        for number, (name, one) in enumerate(_named(held)):
            with seen.files.open(one) as file:
                if number + 1 < len(held):
                    seen.files.announce(held[number + 1])
                header, digest = _header(file), sha256()
                entry = _entry(name, one, file)
                content = _digested(chain([header], file.parts()), digest)
                yield from archive.add(name, one.received_at, len(header) + file.size_bytes, content)
            entries.append(entry._replace(sha256=digest.hexdigest()))
        directory = dicomdir(_as_one_clinic(entries), "", _file_set_id(held[0].study_instance_uid))
        yield from archive.add(DICOMDIR, made_at, len(directory), [directory])
        digests = "".join(_digests(words, entries, directory)).encode()
        yield from archive.add(DIGESTS, made_at, len(digests), [digests])
        yield from archive.end()


def _named(held: Sequence[StoredVersion]) -> Iterator[tuple[str, StoredVersion]]:
    """Yield names of up to eight capitals and digits each (PS3.10 8.2): by number, so that they say nothing."""
    series = {uid: number for number, uid in enumerate(dict.fromkeys(one.series_instance_uid for one in held), 1)}
    images = Counter[str]()
    for one in held:
        images[one.series_instance_uid] += 1
        yield f"DICOM/S{series[one.series_instance_uid]:07}/I{images[one.series_instance_uid]:07}", one


def _file_set_id(study_instance_uid: str) -> str:
    """Return 16 characters (PS3.3 F.3.2.1); each study's differ, and so does the UID of its DICOMDIR."""
    return f"STUDY_{sha256(study_instance_uid.encode()).hexdigest()[:10].upper()}"


def _header(file: VerifiedFile) -> bytes:
    held = file.held
    return file_header(Heading(held.sop_class_uid, held.sop_instance_uid, file.transfer_syntax_uid))


def _entry(name: str, one: StoredVersion, file: VerifiedFile) -> Entry:
    """Return what DICOMDIR says of an image."""
    syntax, held = file.transfer_syntax_uid, file.held
    instance = SOPInstance.read(file.stream(), syntax, held.sop_class_uid, held.sop_instance_uid)
    image = image_of(instance, file.stream, syntax, one.received_at, held.sha256)
    return entry_of(name, "", instance, image, file.file.arrival.site)


def _as_one_clinic(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries without their clinic, unless there are several: one Patient ID in two is two people."""
    if len({entry.patient.site for entry in entries}) > 1:
        return entries
    return [entry._replace(patient=entry.patient._replace(site="")) for entry in entries]


def _digested(parts: Iterable[bytes | memoryview], digest: Digest) -> Iterator[bytes | memoryview]:
    for part in parts:
        digest.update(part)
        yield part


def _digests(words: Words, entries: Iterable[Entry], directory: bytes) -> Iterator[str]:
    """Yield the lines of a list that ``sha256sum --check`` reads; those with # are comments to it."""
    yield f"# {words('parcel.digests')}\n"
    for entry in entries:
        yield f"# Data Set: {entry.image.version}\n{entry.sha256}  {entry.path}\n"
    yield f"{sha256(directory).hexdigest()}  {DICOMDIR}\n"
