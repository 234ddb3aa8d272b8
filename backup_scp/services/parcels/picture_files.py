"""Make a ZIP archive with the pictures of a study as JPEG files, for people without a DICOM viewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backup_scp.errors import InstanceRefused
from backup_scp.machine.zip_stream import ZipStream
from backup_scp.ports import StoredVersion
from backup_scp.services.parcels.parcel import Seen, Words
from backup_scp.services.parcels.readme_file import readme_file
from backup_scp.services.parcels.study_pictures import MOST_FRAMES, StudyPictures
from backup_scp.services.renderable_frames import WholePicture

_QUALITY = 95


def picture_files(seen: Seen, held: Sequence[StoredVersion], words: Words) -> Iterator[bytes]:
    """Yield the archive; its README comes last, because it says what is left out.

    Raises
    ------
    InstanceRefused
        The study has no pictures; before anything is yielded.
    Damaged, ArchiveUnavailable
        An image cannot be read; what was yielded is no whole archive.
    """
    pictures = StudyPictures(seen, words)
    made_at = max(one.received_at for one in held)
    with ZipStream() as archive:
        for picture in pictures.of(held, WholePicture(quality=_QUALITY), MOST_FRAMES):
            name = f"{picture.name}.jpg"
            yield from archive.add(name, made_at, len(picture.content), [picture.content])
        if not pictures.made:
            raise InstanceRefused("This study has no pictures: save it as DICOM files")
        text = "\n".join([words("parcel.pictures_readme"), *pictures.remarks, ""])
        yield from readme_file(archive, made_at, text)
        yield from archive.end()
