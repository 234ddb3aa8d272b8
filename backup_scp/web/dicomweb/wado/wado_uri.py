"""WADO-URI, for viewers of former times: one instance by query parameters (PS3.18 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.rendering import Window
from backup_scp.errors import InstanceRefused
from backup_scp.ports import StoredVersion
from backup_scp.services.permissions import Right
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.documents import DOCUMENT_CLASSES, document_response
from backup_scp.web.dicomweb.wado.encodings import DEFAULT, WantedEncoding
from backup_scp.web.dicomweb.wado.instances import single_response
from backup_scp.web.dicomweb.wado.pictures import GIF, JPEG, PNG, number_of_frames, picture
from backup_scp.web.dicomweb.wado.presented import state_of
from backup_scp.web.dicomweb.wado.rendering_request import RenderingRequest, quality_of
from backup_scp.web.media_types import DICOM, MediaType, Offer
from backup_scp.web.problems import Problem
from backup_scp.web.route import Route
from backup_scp.web.stores import Stores

_UIDS = {"study": "studyUID", "series": "seriesUID", "instance": "objectUID"}
_NOT_OFFERED = ("anonymize", "annotation", "imageAnnotation", "charset")
_STATE = ("presentationSeriesUID", "presentationUID")
_OF_DICOM = ("transferSyntax",)
_OF_IMAGES = ("frameNumber", "rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", *_STATE)
_MOST_PIXELS = 16_384
_IMAGES = (JPEG, PNG, GIF)
OFFERS = (*_IMAGES, Offer(DICOM), Offer("application/pdf"))
PARAMETERS = ("requestType", *_UIDS.values(), "contentType", *_OF_DICOM, *_OF_IMAGES)


def wado_uri(request: Request, stores: Stores) -> Response:
    """Answer a request by query parameters.

    An image is rendered as JPEG unless ``contentType`` says otherwise, any other instance comes as a DICOM file.
    """
    query = request.query_params
    if query.get("requestType") != "WADO":
        raise Problem(400, "requestType must be WADO")
    uids = {name: query.get(parameter, "") for name, parameter in _UIDS.items()}
    if not all(uids.values()):
        raise Problem(400, "studyUID, seriesUID and objectUID must name the instance")
    for name in _NOT_OFFERED:
        if query.get(name):
            raise Problem(400, f"{name} is not offered: leave it out")
    (held, *_) = resources.versions_of(stores, uids)
    ranges = media_types.in_order(media_types.parse(query.get("contentType", ""))) or _by_default(stores, held)
    offer = media_types.choose(ranges, (*_IMAGES, Offer(DICOM), *_document(held)))
    if offer is None:
        raise media_types.not_acceptable(map(str, OFFERS))
    if offer.name == DICOM:
        wanted = WantedEncoding((query.get("transferSyntax") or DEFAULT,))
        tag = resources.etag([held], wanted.required(held.transfer_syntax_uid))
        return not_modified(request, tag) or single_response(request, stores, held, wanted, tag)
    if offer not in _IMAGES:
        return document_response(request, stores, held)
    return _image(request, stores, held, offer)


def _document(held: StoredVersion) -> tuple[Offer, ...]:
    offer = DOCUMENT_CLASSES.get(held.sop_class_uid)
    return (offer,) if offer else ()


def _by_default(stores: Stores, held: StoredVersion) -> tuple[MediaType, ...]:
    """Return the media type of an instance when the caller names none (PS3.18 9.4.1.2.1)."""
    try:
        number_of_frames(stores, held)
    except InstanceRefused:
        return (MediaType(DICOM),)
    return (MediaType(JPEG.name),)


def _image(request: Request, stores: Stores, held: StoredVersion, offer: Offer) -> Response:
    query = request.query_params
    frame = _whole(query, "frameNumber")
    width, height = _whole(query, "columns"), _whole(query, "rows")
    viewport = (width or _MOST_PIXELS, height or _MOST_PIXELS) if width or height else None
    quality = quality_of(query.get("imageQuality", ""))
    wanted = RenderingRequest(_window(query), viewport, None, quality, _region(query.get("region", "")))
    presenting = _presentation_state(query, stores, held)
    tag = resources.etag([held, *presenting], f"wado {frame} {offer} {wanted}")
    if unchanged := not_modified(request, tag):
        return unchanged
    state = state_of(stores, presenting[0]) if presenting else None
    if state and state.frames_of(held.sop_instance_uid) is None:
        raise Problem(400, "The presentation state is for other images")
    try:
        last = number_of_frames(stores, held)
        if frame > last:
            raise Problem(400, f"There is no frame {frame}: the last one is {last}")
        content = picture(stores, held, [frame] if frame else None, offer, wanted, state)
    except InstanceRefused as error:
        raise Problem(406, f"SOP Instance {held.sop_instance_uid} has no image: {error}") from error
    return Response(content, headers={"etag": tag}, media_type=offer.name)


def _presentation_state(query: Mapping[str, str], stores: Stores, held: StoredVersion) -> list[StoredVersion]:
    """Return the presentation state that is to be applied, which is in the study of its images; none when it is not."""
    series, instance = (query.get(name, "") for name in _STATE)
    if not series and not instance:
        return []
    if not series or not instance:
        raise Problem(400, f"{_STATE[0]} and {_STATE[1]} name a presentation state together")
    uids = {"study": held.study_instance_uid, "series": series, "instance": instance}
    return resources.versions_of(stores, uids)[:1]


def _region(text: str) -> tuple[float, float, float, float] | None:
    """Read a part of the image: left, top, right and bottom, each of 0 to 1 (PS3.18 9.5.1.2.5)."""
    if not text:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        left = top = right = bottom = 0.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise Problem(400, "region is LEFT,TOP,RIGHT,BOTTOM, from 0 to 1 of the image")
    return left, top, right, bottom


def _whole(query: Mapping[str, str], name: str) -> int:
    """Return a number from 1; 0 when it is not there."""
    text = query.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= _MOST_PIXELS * 64):
        raise Problem(400, f"{name} is a number from 1")
    number = int(text[:9])
    return number if name == "frameNumber" else min(number, _MOST_PIXELS)


def _window(query: Mapping[str, str]) -> Window | None:
    center, width = query.get("windowCenter", ""), query.get("windowWidth", "")
    if not center and not width:
        return None
    try:
        window = Window(float(center), float(width))
    except ValueError:
        window = Window(math.nan, 0)
    if not math.isfinite(window.center) or not 0 < window.width < math.inf:
        raise Problem(400, "windowCenter and windowWidth are two numbers")
    return window


ROUTES = (Route("/wado", "GET", "WADO-URI", "9", Right.RETRIEVE, wado_uri, OFFERS, PARAMETERS),)
