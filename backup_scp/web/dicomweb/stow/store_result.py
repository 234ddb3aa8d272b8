"""What became of the images of a request, and the answer that tells it (PS3.18 10.5.3, Annex I)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from starlette.responses import Response

from backup_scp.dicom.uids import is_like_uid
from backup_scp.errors import AnotherStudy, BackupSCPError, Invalid, InvalidDataSet, Unavailable
from backup_scp.web.dicomweb.response_module import (
    ModelElement,
    encoded,
    failure_reason,
    reference,
    retrieve_url,
    sequence,
)
from backup_scp.web.media_types import Offer


class StoreFailure(IntEnum):
    """Why an image was not stored; Failure Reason (0008,1197), PS3.18 Table I.2-2."""

    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    ANOTHER_STUDY = 0xA901
    CANNOT_UNDERSTAND = 0xC000


_REASONS: tuple[tuple[type[BackupSCPError], StoreFailure], ...] = (
    (AnotherStudy, StoreFailure.ANOTHER_STUDY),
    (InvalidDataSet, StoreFailure.DOES_NOT_MATCH),
    (Invalid, StoreFailure.CANNOT_UNDERSTAND),
    (Unavailable, StoreFailure.OUT_OF_RESOURCES),
)


class RequestedImage(NamedTuple):
    """The identity of one image of a request; empty where it is unknown."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""


class StoreResult:
    """What became of the images of a request, in their order."""

    def __init__(self) -> None:
        self.stored: list[RequestedImage] = []
        self.failed: list[tuple[RequestedImage, StoreFailure]] = []
        self._first: BackupSCPError | None = None
        self._may_succeed_later = True

    def add_failure(self, image: RequestedImage, error: BackupSCPError) -> None:
        """Record why an image was not stored; of further errors only the kind, since each holds the part's memory."""
        self._first = self._first or error
        self._may_succeed_later &= isinstance(error, Unavailable)
        self.failed.append((image, _reason(error)))

    def for_audit(self) -> tuple[list[tuple[str, str]], int, str]:
        """Return study and SOP Class of what is stored, the number of refused images, and why the first was."""
        stored = [(image.study_instance_uid, image.sop_class_uid) for image in self.stored]
        return stored, len(self.failed), str(self._first or "")

    def raise_if_unavailable(self) -> None:
        """Raise the first error when nothing was stored because of the archive or the index: try again later.

        Raises
        ------
        Unavailable
        """
        if self._first is not None and not self.stored and self._may_succeed_later:
            raise self._first

    def response(self, base: str, offer: Offer) -> Response:
        """Encode the answer; ``base`` is the base URI of the service."""
        status = 200 if not self.failed else 202 if self.stored else 409
        headers = {}
        if self._first is not None:
            reason = str(self._first).encode("ascii", "replace").decode().replace('"', "'")
            headers["Warning"] = f'299 backup-scp "{reason}"'
        return Response(encoded(self._module(base), offer), status, headers, offer.name)

    def _module(self, base: str) -> list[ModelElement]:
        module = []
        studies = {image.study_instance_uid for image in self.stored}
        if len(studies) == 1 and (url := _study_url(base, studies.pop())):
            module.append(retrieve_url(url))
        named = [(image, reason) for image, reason in self.failed if image.sop_instance_uid]
        if named:
            module.append(
                sequence("FailedSOPSequence", ([*_reference(image), failure_reason(reason)] for image, reason in named))
            )
        if self.stored:
            items = ([*_reference(image), *_url(base, image)] for image in self.stored)
            module.append(sequence("ReferencedSOPSequence", items))
        if len(named) < len(self.failed):
            others = ([failure_reason(reason)] for image, reason in self.failed if not image.sop_instance_uid)
            module.append(sequence("OtherFailuresSequence", others))
        return module


def _reference(image: RequestedImage) -> list[ModelElement]:
    return reference(image.sop_class_uid, image.sop_instance_uid)


def _reason(error: BackupSCPError) -> StoreFailure:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), StoreFailure.PROCESSING_FAILURE)


def _study_url(base: str, study: str) -> str:
    return f"{base}/studies/{study}" if is_like_uid(study) else ""


def _url(base: str, image: RequestedImage) -> list[ModelElement]:
    """Return the Retrieve URL; an image without all three UIDs has none."""
    if not all(map(is_like_uid, image[1:])):
        return []
    study, series, instance = image.study_instance_uid, image.series_instance_uid, image.sop_instance_uid
    return [retrieve_url(f"{base}/studies/{study}/series/{series}/instances/{instance}")]
