"""Make a document with the pictures of a study, one on each page, for people with a printer or a phone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from threading import Semaphore

from backup_scp.dicom.readable_values import readable_date, readable_name
from backup_scp.errors import InstanceRefused, ResourceLimitation
from backup_scp.ports import PictureDocument, PicturePage, StoredVersion, WriteDocument
from backup_scp.services.parcels.parcel import Seen, Words
from backup_scp.services.parcels.study_pictures import Picture, StudyPictures
from backup_scp.services.renderable_frames import WholePicture

MOST_PICTURES = 100
"""So many are a document that people look through."""

_MOST_AT_ONCE = 2
_LARGEST = 1200  # pixels on a side: 170 to an inch
_MOST_PIXELS = 60_000_000  # of all: while a document is written, five times its length is in memory
_QUALITY = 85
_PART_BYTES = 1 << 18


class PicturePages:
    """Makes documents, a few at a time: each is in memory until it was sent.

    Parameters
    ----------
    write
        Writes a PDF.
    """

    def __init__(self, write: WriteDocument) -> None:
        self._write = write
        self._places = Semaphore(_MOST_AT_ONCE)

    def of(self, seen: Seen, held: Sequence[StoredVersion], words: Words) -> Iterator[bytes]:
        """Yield the document.

        Raises
        ------
        InstanceRefused
            The study has no pictures; before anything is yielded, as all others.
        ResourceLimitation
            Others are being made.
        Damaged, ArchiveUnavailable
        """
        if not self._places.acquire(blocking=False):
            raise ResourceLimitation("Other documents are being made for the moment: try again in a minute")
        try:
            content = self._write(_document(seen, held, words))
            for at in range(0, len(content), _PART_BYTES):
                yield content[at : at + _PART_BYTES]
        finally:
            self._places.release()


def chosen(held: Sequence[StoredVersion], most: int) -> list[StoredVersion]:
    """Return every image, or of more than ``most`` every n-th of each series, the one in the middle of the n."""
    step = -(-len(held) // most)
    by_series = [list(of_series) for _, of_series in groupby(held, lambda one: one.series_instance_uid)]
    found = [one for images in by_series for one in images[min(step // 2, len(images) - 1) :: step]]
    return found if len(found) <= most else found[:: -(-len(found) // most)]


def _document(seen: Seen, held: Sequence[StoredVersion], words: Words) -> PictureDocument:
    pictures, some = StudyPictures(seen, words), chosen(held, MOST_PICTURES)
    pages, facts = list[PicturePage](), list[tuple[str, str]]()
    side = min(_LARGEST, math.isqrt(_MOST_PIXELS // len(some)))
    for picture in pictures.of(some, WholePicture((side, side), _QUALITY), 1):
        facts = facts or list(_facts(picture.attributes, words))
        head = " · ".join(value for _, value in _facts(picture.attributes, words))
        pages.append(PicturePage(picture.content, head, _caption(picture, words)))
    if not pages:
        raise InstanceRefused("This study has no pictures: save it as DICOM files")
    remarks = pictures.remarks
    if len(some) < len(held):
        remarks.insert(0, words("parcel.some", shown=len(pages), images=len(held)))
    return PictureDocument(
        words("parcel.pdf_title"),
        facts,
        remarks,
        words("parcel.pdf_foot"),
        words("parcel.pdf_without_font"),
        lambda page, pages: words("parcel.pdf_page", page=page, pages=pages),
        pages,
    )


def _facts(attributes: Mapping[str, str], words: Words) -> Iterator[tuple[str, str]]:
    values = {
        "patient": readable_name(attributes.get("PatientName", "")),
        "born": readable_date(attributes.get("PatientBirthDate", "")),
        "made": readable_date(attributes.get("StudyDate", "")),
        "examination": " ".join(filter(None, (attributes.get("Modality"), attributes.get("StudyDescription")))),
    }
    for name, value in values.items():
        if value:
            yield words(f"parcel.pdf_{name}"), value


def _caption(picture: Picture, words: Words) -> str:
    attributes, number = picture.attributes, picture.name
    series = attributes.get("SeriesDescription", "") or attributes.get("BodyPartExamined", "")
    if picture.frames > 1:
        return words("parcel.pdf_frame", name=number, series=series, frame=picture.frame, frames=picture.frames)
    return words("parcel.pdf_image", name=number, series=series)
