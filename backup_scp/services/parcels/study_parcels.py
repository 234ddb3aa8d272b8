"""Make what a person takes along of one study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Condition, Query, SingleValue
from backup_scp.dicom.rendering import can_render
from backup_scp.ports import StoredVersion, WriteDocument
from backup_scp.services.parcels.dicom_files import dicom_files
from backup_scp.services.parcels.parcel import Parcel, ParcelKind, Seen, Words
from backup_scp.services.parcels.picture_files import picture_files
from backup_scp.services.parcels.picture_pages import PicturePages

_ZIP, _PDF = "application/zip", "application/pdf"
_Content = Callable[[Seen, Sequence[StoredVersion], Words], Iterator[bytes]]


class StudyParcels:
    """Makes what people take along of a study; threads share it.

    Parameters
    ----------
    write_document
        Writes a PDF; None where nothing can.
    """

    def __init__(self, write_document: WriteDocument | None = None) -> None:
        self._made: dict[ParcelKind, tuple[str, str, _Content]] = {
            ParcelKind.DICOM: ("study.zip", _ZIP, dicom_files),
            ParcelKind.PICTURES: ("pictures.zip", _ZIP, picture_files),
        }
        if write_document is not None:
            self._made[ParcelKind.DOCUMENT] = ("pictures.pdf", _PDF, PicturePages(write_document).of)

    @property
    def kinds(self) -> tuple[ParcelKind, ...]:
        """Return what can be had here: without the extra ``images`` there are no pictures."""
        return tuple(self._made) if can_render() else (ParcelKind.DICOM,)

    def make(self, kind: ParcelKind, seen: Seen, study_instance_uid: str, words: Words) -> Parcel | None:
        """Return what a person takes along; None when this person sees no such study, or the kind cannot be had.

        Raises
        ------
        IndexUnavailable
        """
        held = _images(seen, study_instance_uid) if kind in self._made else []
        if not held:
            return None
        name, media_type, content = self._made[kind]
        return Parcel(name, media_type, content(seen, held, words))


def _images(seen: Seen, study_instance_uid: str) -> list[StoredVersion]:
    """Return the answering versions of a study, in series and instance order."""
    if not study_instance_uid or "\\" in study_instance_uid:
        return []
    condition = Condition(BY_KEYWORD["StudyInstanceUID"], SingleValue(study_instance_uid))
    return seen.index.retrieve(Query(Level.STUDY, (condition,)))
