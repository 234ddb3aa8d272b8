"""References to instances, one by one or by study, as Storage Commitment has them (PS3.18 Annex J)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from backup_scp.dicom.uids import is_like_uid
from backup_scp.ports import FailureReason, Reference
from backup_scp.web.dicomweb.response_module import ModelElement, failure_reason, sequence
from backup_scp.web.problems import Problem

MOST_REFERENCES = 10_000

T = TypeVar("T")

Result = tuple[Reference, FailureReason | None]
"""A reference, and why it is not committed."""


class _UIDElement(Struct):
    Value: Annotated[list[str], Meta(min_length=1, max_length=1)]


class _SequenceElement(Struct, Generic[T]):
    Value: Annotated[list[T], Meta(min_length=1)]


class _SOPItem(Struct):
    sop_class: _UIDElement = msgspec.field(name="00081150")
    instance: _UIDElement = msgspec.field(name="00081155")


class _InstanceItem(Struct):
    instance: _UIDElement = msgspec.field(name="00081155")


class _SOPClassItem(Struct):
    sop_class: _UIDElement = msgspec.field(name="00081150")
    instances: _SequenceElement[_InstanceItem] = msgspec.field(name="0008114A")


class _SeriesItem(Struct):
    series: _UIDElement = msgspec.field(name="0020000E")
    by_sop_class: _SequenceElement[_SOPClassItem] = msgspec.field(name="00081112")


class _StudyItem(Struct):
    study: _UIDElement = msgspec.field(name="0020000D")
    series: _SequenceElement[_SeriesItem] = msgspec.field(name="00081115")


class _RequestModule(Struct):
    sops: _SequenceElement[_SOPItem] | None = msgspec.field(name="00081199", default=None)
    studies: _SequenceElement[_StudyItem] | None = msgspec.field(name="00081110", default=None)


_DECODER = msgspec.json.Decoder(_RequestModule | Annotated[list[_RequestModule], Meta(min_length=1, max_length=1)])


def read_references(body: bytes) -> tuple[Reference, ...]:
    """Read a Storage Commitment Request Module (PS3.18 J.1) in DICOM JSON.

    Raises
    ------
    Problem
        400, 413
    """
    try:
        read = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _malformed() from None
    found = _references(read[0] if isinstance(read, list) else read)
    references = tuple(islice(found, MOST_REFERENCES + 1))
    if len(references) > MOST_REFERENCES:
        raise Problem(413, f"A request may list {MOST_REFERENCES:,} images: send several requests")
    if not references:
        raise _malformed()
    return references


def _references(module: _RequestModule) -> Iterator[Reference]:
    if module.sops is not None:
        for sop in module.sops.Value:
            yield Reference(_uid(sop.sop_class), _uid(sop.instance))
    if module.studies is not None:
        for study in module.studies.Value:
            for series in study.series.Value:
                for group in series.by_sop_class.Value:
                    where = (_uid(group.sop_class), _uid(study.study), _uid(series.series))
                    for item in group.instances.Value:
                        yield Reference(where[0], _uid(item.instance), *where[1:])


def _uid(element: _UIDElement) -> str:
    (uid,) = element.Value
    if not is_like_uid(uid):
        raise _malformed()
    return uid


def _malformed() -> Problem:
    return Problem(
        400,
        "The body is no Storage Commitment Request in DICOM JSON (PS3.18 J.1): it lists images in a Referenced SOP "
        "Sequence (0008,1199), or by study, series and SOP Class in a Referenced Study Sequence (0008,1110), each by "
        "its SOP Instance UID; a study without a list of its images cannot be committed",
    )


def studies(keyword: str, results: Iterable[Result]) -> ModelElement:
    """Return a sequence of studies, with series, SOP Classes and instances (PS3.18 Table J.2-1).

    A reason for a failure stands beside the instance.
    """
    ordered = sorted(results, key=lambda each: (*each[0][2:], *each[0][:2]))
    return sequence(
        keyword, (_study_item(uid, list(own)) for uid, own in groupby(ordered, key=lambda each: each[0][2]))
    )


def _study_item(uid: str, results: list[Result]) -> list[ModelElement]:
    by_series = groupby(results, key=lambda each: each[0].series_instance_uid)
    items = (_series_item(series, list(own)) for series, own in by_series)
    return [ModelElement("StudyInstanceUID", uid), sequence("ReferencedSeriesSequence", items)]


def _series_item(uid: str, results: list[Result]) -> list[ModelElement]:
    by_class = groupby(results, key=lambda each: each[0].sop_class_uid)
    items = (
        [
            ModelElement("ReferencedSOPClassUID", sop_class),
            sequence("ReferencedInstanceSequence", map(_instance_item, own)),
        ]
        for sop_class, own in by_class
    )
    return [ModelElement("SeriesInstanceUID", uid), sequence("ReferencedInstancesBySOPClassSequence", items)]


def _instance_item(result: Result) -> list[ModelElement]:
    reference, reason = result
    uid = ModelElement("ReferencedSOPInstanceUID", reference.sop_instance_uid)
    return [uid] if reason is None else [uid, failure_reason(reason)]
