"""Render images as a presentation state says, which is itself the resource (PS3.18 10.4.1.1.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydicom.uid import UID
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.rendering.softcopy_state import SOP_CLASS, SoftcopyState
from backup_scp.errors import InstanceRefused
from backup_scp.ports import StoredVersion
from backup_scp.services.plain_data_set import plain
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.pictures import GIF, JPEG, PNG, picture
from backup_scp.web.dicomweb.wado.rendering_request import RenderingRequest
from backup_scp.web.media_types import MULTIPART, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.problems import Problem
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import StreamedResponse

_ONE = (JPEG, PNG, GIF)
_PARTS = tuple(Offer(MULTIPART, each.name) for each in _ONE)


class _Presented(NamedTuple):
    """A frame that a presentation state is for; no number is the one that stands for all."""

    held: StoredVersion
    number: int | None


def is_presentation_state(sop_class_uid: str) -> bool:
    """Tell whether instances of a SOP Class say how others are displayed, of whatever kind."""
    return "Presentation State" in UID(sop_class_uid).name


def state_of(stores: Stores, held: StoredVersion) -> SoftcopyState:
    """Read a presentation state.

    Raises
    ------
    Problem
        406: it cannot be applied here.
    """
    if held.sop_class_uid != SOP_CLASS:
        name = UID(held.sop_class_uid).name
        raise Problem(406, f"Only a Grayscale Softcopy Presentation State can be applied here, and this is: {name}")
    try:
        with resources.opened(stores, held) as file, plain(file) as data_set:
            return SoftcopyState.of(data_set.read_at(0, data_set.size_bytes), data_set.transfer_syntax_uid)
    except InstanceRefused as error:
        raise Problem(406, f"SOP Instance {held.sop_instance_uid} cannot be applied: {error}") from error


def presented_response(request: Request, stores: Stores, held: StoredVersion) -> Response:
    """Return the images that a presentation state is for, as it says: one as a picture or part, several as parts."""
    wanted = RenderingRequest.read(request.query_params)
    state = state_of(stores, held)
    images = list(_images(stores, held, state))
    if not images:
        raise Problem(406, f"SOP Instance {held.sop_instance_uid} names no image to which it applies")
    offer = media_types.require(request, (*_ONE, *_PARTS) if len(images) == 1 else _PARTS)
    tag = resources.etag([held, *(each.held for each in images)], f"presented {offer} {wanted}")
    if unchanged := not_modified(request, tag):
        return unchanged
    pictures = (_picture(stores, each, offer, wanted, state) for each in images)
    if not offer.root:
        return Response(next(pictures), headers={"etag": tag}, media_type=offer.name)
    writer = MultipartWriter(offer.root)

    def parts() -> Iterator[bytes]:
        for content in pictures:
            yield writer.head(offer.root) + content
        yield writer.end()

    return StreamedResponse(parts(), writer.content_type)


def _images(stores: Stores, held: StoredVersion, state: SoftcopyState) -> Iterator[_Presented]:
    for reference in state.references:
        uids = held.study_instance_uid, reference.series_instance_uid, reference.sop_instance_uid
        try:
            (image, *_) = resources.versions_of(stores, dict(zip(("study", "series", "instance"), uids, strict=True)))
        except Problem as error:
            uid = reference.sop_instance_uid
            raise Problem(
                404, f"The image that this presentation state is for is not here: SOP Instance {uid}"
            ) from error
        for number in reference.frames or (None,):
            yield _Presented(image, number)


def _picture(stores: Stores, each: _Presented, offer: Offer, wanted: RenderingRequest, state: SoftcopyState) -> bytes:
    numbers = None if each.number is None else [each.number]
    try:
        return picture(stores, each.held, numbers, Offer(offer.root or offer.name), wanted, state)
    except InstanceRefused as error:
        raise Problem(406, f"SOP Instance {each.held.sop_instance_uid} cannot be shown: {error}") from error
