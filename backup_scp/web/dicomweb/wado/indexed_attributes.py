"""Write what the index knows of an instance whose file is damaged: the attributes that it got from intact bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from backup_scp.dicom.attributes import ATTRIBUTES, BY_KEYWORD, Level
from backup_scp.dicom.model_text import ModelText
from backup_scp.dicom.query.conditions import Condition, Query, SingleValue
from backup_scp.ports import StoredVersion, StudyReader

_CHARACTER_SET = 0x00080005
_UTF_8 = "ISO_IR 192"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# Without Modality, Rows and the like: a viewer would take it for an image with pixels, and show none of the series.
_OF_AN_IMAGE = tuple(
    each
    for each in ATTRIBUTES
    if not each.items
    and not each.computed
    and (each.level is not Level.IMAGE or each.keyword in {"SOPClassUID", "SOPInstanceUID"})
    and each.keyword != "Modality"
)


def indexed_attributes(index: StudyReader, held: StoredVersion, model: ModelText) -> Iterator[str]:
    """Yield the attributes of an instance that the index knows, in the order of their tags."""
    uids = held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid
    conditions = tuple(Condition(BY_KEYWORD[name], SingleValue(uid)) for name, uid in zip(_UIDS, uids, strict=True))
    with closing(index.search(Query(Level.IMAGE, conditions, _OF_AN_IMAGE))) as found:
        match = next(found, None)
    if match is None:
        return
    said = {each.tag: (each.vr, match[each.keyword]) for each in _OF_AN_IMAGE if match.get(each.keyword)}
    said[_CHARACTER_SET] = "CS", _UTF_8
    for tag in sorted(said):
        yield model.values(tag, *said[tag])
