"""Make what a person takes along of one study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Condition, Query, SingleValue
from backup_scp.dicom.rendering import can_render
from backup_scp.ports import StoredVersion
from backup_scp.services.parcels.dicom_files import dicom_files
from backup_scp.services.parcels.parcel import Parcel, ParcelKind, Seen, Words
from backup_scp.services.parcels.picture_files import picture_files

_ZIP = "application/zip"
_CONTENT: dict[ParcelKind, tuple[str, str, Callable[[Seen, Sequence[StoredVersion], Words], Iterator[bytes]]]] = {
    ParcelKind.DICOM: ("study.zip", _ZIP, dicom_files),
    ParcelKind.PICTURES: ("pictures.zip", _ZIP, picture_files),
}


class StudyParcels:
    """Makes what people take along of a study; threads share it."""

    @property
    def kinds(self) -> tuple[ParcelKind, ...]:
        """Return what can be had here: without the extra ``images`` there are no pictures."""
        return tuple(ParcelKind) if can_render() else (ParcelKind.DICOM,)

    def make(self, kind: ParcelKind, seen: Seen, study_instance_uid: str, words: Words) -> Parcel | None:
        """Return what a person takes along; None when this person sees no such study.

        Raises
        ------
        IndexUnavailable
        """
        held = _images(seen, study_instance_uid)
        if not held:
            return None
        name, media_type, content = _CONTENT[kind]
        return Parcel(name, media_type, content(seen, held, words))


def _images(seen: Seen, study_instance_uid: str) -> list[StoredVersion]:
    """Return the answering versions of a study, in series and instance order."""
    if not study_instance_uid or "\\" in study_instance_uid:
        return []
    condition = Condition(BY_KEYWORD["StudyInstanceUID"], SingleValue(study_instance_uid))
    return seen.index.retrieve(Query(Level.STUDY, (condition,)))
