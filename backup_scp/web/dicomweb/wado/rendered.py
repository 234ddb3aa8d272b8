"""Retrieve rendered images and thumbnails, and documents and videos as they are (PS3.18 10.4.1.1.7, 10.4.1.1.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from backup_scp import __version__
from backup_scp.errors import InstanceRefused
from backup_scp.machine.recent import Recent
from backup_scp.ports import StoredVersion
from backup_scp.services.permissions import Right
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.documents import DOCUMENT_CLASSES, document_response, is_video, video_response
from backup_scp.web.dicomweb.wado.pictures import GIF, JPEG, PNG, number_of_frames, picture
from backup_scp.web.dicomweb.wado.presented import is_presentation_state, presented_response
from backup_scp.web.dicomweb.wado.rendering_request import PARAMETERS, RenderingRequest
from backup_scp.web.dicomweb.wado.retrieve_frames import numbers_of
from backup_scp.web.media_types import MULTIPART, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.problems import Problem
from backup_scp.web.route import Handler, Route
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import StreamedResponse

_ONE = (JPEG, PNG, GIF)
_SEVERAL = (GIF, JPEG, PNG)
_PARTS = tuple(Offer(MULTIPART, each.name) for each in _ONE)
_DOCUMENTS = (Offer("application/pdf"), Offer("video/mpeg"), Offer("video/mp4"))
_MOST_TRIED = 8
_THUMBNAIL_BYTES = 8 << 20

_thumbnails: Recent[bytes] = Recent(_THUMBNAIL_BYTES, len)


class _Image(NamedTuple):
    """A picture of one instance, and what it is a picture of."""

    held: StoredVersion
    content: bytes


def rendered_many(request: Request, stores: Stores) -> Response:
    """Answer a request for a study or series: each image of it as a part.

    What has no image is left out.  The status is 206 when that is known at the beginning.
    """
    offer = media_types.require(request, _PARTS)
    wanted = RenderingRequest.read(request.query_params)
    held = resources.versions(request, stores)
    writer = MultipartWriter(offer.root)
    images = _images(stores, held, Offer(offer.root), wanted)
    first = next(images, None)
    if first is None:
        raise Problem(406, "None of these instances can be rendered as an image")
    status = 200 if first.held == held[0] else 206

    def parts() -> Iterator[bytes]:
        yield writer.head(offer.root) + first.content
        for image in images:
            yield writer.head(offer.root) + image.content
        yield writer.end()

    return StreamedResponse(parts(), writer.content_type, status=status)


def _images(stores: Stores, held: Sequence[StoredVersion], offer: Offer, wanted: RenderingRequest) -> Iterator[_Image]:
    for one in held:
        try:
            yield _Image(one, picture(stores, one, None, offer, wanted))
        except InstanceRefused:
            continue


def rendered_instance(request: Request, stores: Stores) -> Response:
    """Answer a request for an instance: one picture, all frames in motion as GIF, or its document or video.

    A presentation state gives the images that it is for.
    """
    held = resources.one_version(request, stores)
    if held.sop_class_uid in DOCUMENT_CLASSES:
        return document_response(request, stores, held)
    if is_video(held.transfer_syntax_uid):
        return video_response(request, stores, held)
    if is_presentation_state(held.sop_class_uid):
        return presented_response(request, stores, held)
    wanted = RenderingRequest.read(request.query_params)
    ranges = media_types.accepted(request)
    several = _has_frames(stores, held)
    offer = media_types.choose(ranges, _SEVERAL if several else _ONE)
    if offer is None:
        raise media_types.not_acceptable(map(str, _SEVERAL if several else _ONE))
    return _one(request, stores, held, [] if several and offer == GIF else None, offer, wanted)


def rendered_frames(request: Request, stores: Stores) -> Response:
    """Answer a request for frames: one as a picture, or as parts; several as parts."""
    numbers = numbers_of(request.path_params["frames"])
    held = resources.one_version(request, stores)
    wanted = RenderingRequest.read(request.query_params)
    offer = media_types.require(request, (*_ONE, *_PARTS) if len(numbers) == 1 else _PARTS)
    if not offer.root:
        return _one(request, stores, held, numbers, offer, wanted)
    writer = MultipartWriter(offer.root)

    def parts() -> Iterator[bytes]:
        for number in numbers:
            yield writer.head(offer.root) + _required(stores, held, [number], Offer(offer.root), wanted)
        yield writer.end()

    return StreamedResponse(parts(), writer.content_type)


def thumbnail(request: Request, stores: Stores) -> Response:
    """Answer a request for a thumbnail: of the image in the middle of the first series with images."""
    offer = media_types.require(request, _ONE)
    wanted = RenderingRequest.read(request.query_params, is_thumbnail=True)
    held = resources.versions(request, stores)
    numbers = numbers_of(request.path_params["frames"])[:1] if "frames" in request.path_params else None
    tag = resources.etag(held, f"{__version__} thumbnail {numbers} {offer} {wanted}")
    if unchanged := not_modified(request, tag):
        return unchanged
    if (content := _thumbnails.get(tag)) is None:
        content = thumbnail_of(stores, held, numbers, offer, wanted)
        _thumbnails.keep(tag, content)
    return Response(content, headers={"etag": tag}, media_type=offer.name)


def thumbnail_of(
    stores: Stores,
    held: Sequence[StoredVersion],
    numbers: Sequence[int] | None,
    offer: Offer,
    wanted: RenderingRequest,
) -> bytes:
    """Return the picture that stands for these versions, which is kept.

    Raises
    ------
    Problem
        404: none has an image.
    """
    first = [one for one in held if one.series_instance_uid == held[0].series_instance_uid]
    others = list(reversed(held[len(first) :]))
    for one in [first[len(first) // 2], first[0], *others][:_MOST_TRIED]:
        try:
            return _kept_picture(stores, one, numbers, offer, wanted)
        except InstanceRefused:
            continue
    raise Problem(404, "None of these instances has an image for a thumbnail")


def _kept_picture(
    stores: Stores, held: StoredVersion, numbers: Sequence[int] | None, offer: Offer, wanted: RenderingRequest
) -> bytes:
    """Render a picture, or return it as it is kept for the same Data Set, also by an earlier process."""
    if stores.cache is None:
        return picture(stores, held, numbers, offer, wanted)
    key = f"picture {__version__} {held.sha256} {held.transfer_syntax_uid} {numbers} {offer} {wanted}"
    if (content := stores.cache.get(key)) is None:
        content = picture(stores, held, numbers, offer, wanted)
        with resources.opened(stores, held) as file:
            if file.held.sha256 == held.sha256:  # not another version, which stands for a damaged one
                stores.cache.keep(key, content)
    return content


def _one(
    request: Request,
    stores: Stores,
    held: StoredVersion,
    numbers: Sequence[int] | None,
    offer: Offer,
    wanted: RenderingRequest,
) -> Response:
    tag = resources.etag([held], f"{__version__} rendered {numbers} {offer} {wanted}")
    if unchanged := not_modified(request, tag):
        return unchanged
    content = _required(stores, held, numbers, offer, wanted)
    return Response(content, headers={"etag": tag}, media_type=offer.name)


def _required(
    stores: Stores, held: StoredVersion, numbers: Sequence[int] | None, offer: Offer, wanted: RenderingRequest
) -> bytes:
    try:
        return picture(stores, held, numbers, offer, wanted)
    except InstanceRefused as error:
        raise Problem(406, f"SOP Instance {held.sop_instance_uid} has no image: {error}") from error


def _has_frames(stores: Stores, held: StoredVersion) -> bool:
    try:
        return number_of_frames(stores, held) > 1
    except InstanceRefused as error:
        raise Problem(406, f"SOP Instance {held.sop_instance_uid} has no image: {error}") from error


_STUDY, _SERIES = "/studies/{study}", "/studies/{study}/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"


def _route(path: str, what: str, handler: Handler, offers: tuple[Offer, ...]) -> Route:
    return Route(path, "GET", what, "10.4", Right.RETRIEVE, handler, offers, PARAMETERS)


ROUTES = (
    _route(f"{_STUDY}/rendered", "Retrieve Rendered Study", rendered_many, _PARTS),
    _route(f"{_SERIES}/rendered", "Retrieve Rendered Series", rendered_many, _PARTS),
    _route(f"{_INSTANCE}/rendered", "Retrieve Rendered Instance", rendered_instance, (*_ONE, *_DOCUMENTS)),
    _route(f"{_FRAMES}/rendered", "Retrieve Rendered Frames", rendered_frames, (*_ONE, *_PARTS)),
    _route(f"{_STUDY}/thumbnail", "Retrieve Study Thumbnail", thumbnail, _ONE),
    _route(f"{_SERIES}/thumbnail", "Retrieve Series Thumbnail", thumbnail, _ONE),
    _route(f"{_INSTANCE}/thumbnail", "Retrieve Instance Thumbnail", thumbnail, _ONE),
    _route(f"{_FRAMES}/thumbnail", "Retrieve Frame Thumbnail", thumbnail, _ONE),
)
