"""Store Instances: the resource that takes images (PS3.18 10.5)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.errors import InvalidDataSet
from backup_scp.services.permissions import Right
from backup_scp.web import media_types
from backup_scp.web.dicomweb.request_body import LIMITS, feed_body, require_plain
from backup_scp.web.dicomweb.response_module import OFFERS
from backup_scp.web.dicomweb.stow.incoming_files import ImageKeeper, IncomingFiles
from backup_scp.web.dicomweb.stow.incoming_metadata import IncomingMetadata
from backup_scp.web.dicomweb.stow.multipart_reader import MultipartReader, PartTaker
from backup_scp.web.dicomweb.stow.store_result import RequestedImage, StoreResult
from backup_scp.web.media_types import DICOM, DICOM_JSON, DICOM_XML, MULTIPART, MediaType, Offer
from backup_scp.web.problems import Problem
from backup_scp.web.request_audit import STORED
from backup_scp.web.route import Route, base_of, require_uids
from backup_scp.web.stores import Stores

CONTENT_TYPES = (Offer(MULTIPART, DICOM), Offer(MULTIPART, DICOM_JSON), Offer(MULTIPART, DICOM_XML))

_ONE_AT_A_TIME: RunVar[anyio.CapacityLimiter] = RunVar("metadata")


class _IncomingBody(PartTaker, Protocol):
    def finish(self) -> None: ...

    def abandon(self) -> None: ...


async def store_instances(request: Request, stores: Stores) -> Response:
    """Store the images of a request as they come; the answer names each of them.

    Raises
    ------
    Problem
        400: malformed.  406, 408, 413, 415.
    Unavailable
        Nothing can be stored now.
    """
    offer = media_types.require(request, OFFERS)
    require_uids(request.path_params)
    study = request.path_params.get("study", "")
    content_type = _content_type(request)
    result = StoreResult()
    caller = request.scope["caller"]
    incoming = _taker(content_type, ImageKeeper(stores.ingest, caller.address, study, result, caller.site))
    reader = MultipartReader(content_type.parameters.get("boundary", ""), incoming)
    try:
        await feed_body(request, LIMITS, reader.feed)
        reader.require_end()
        await _finish(incoming)
    except Problem as problem:
        if not result.stored or problem.status == HTTPStatus.REQUEST_TIMEOUT:
            raise
        result.add_failure(RequestedImage(), InvalidDataSet(problem.detail))  # 202: the caller learns what is stored
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(incoming.abandon)
    request.scope[STORED] = result.for_audit()
    result.raise_if_unavailable()
    if not result.stored and not result.failed:
        raise Problem(400, "The request has no part, so that there is nothing to store")
    return result.response(base_of(request), offer)


async def _finish(incoming: _IncomingBody) -> None:
    """Store what is left; of metadata one request at a time, since as objects they take much memory."""
    if not isinstance(incoming, IncomingMetadata):
        await run_in_threadpool(incoming.finish)
        return
    try:
        one = _ONE_AT_A_TIME.get()
    except LookupError:
        one = anyio.CapacityLimiter(1)
        _ONE_AT_A_TIME.set(one)
    await anyio.to_thread.run_sync(incoming.finish, limiter=one)


def _content_type(request: Request) -> MediaType:
    """Return the media type of the body.

    Raises
    ------
    Problem
        400, 415
    """
    require_plain(request)
    if "content-type" not in request.headers:
        raise _unsupported()
    return media_types.parse_one(request.headers["content-type"])


def _taker(content_type: MediaType, keeper: ImageKeeper) -> _IncomingBody:
    if content_type.is_multipart and content_type.root == DICOM:
        return IncomingFiles(keeper)
    if content_type.is_multipart and content_type.root in (DICOM_JSON, DICOM_XML):
        return IncomingMetadata(keeper)
    raise _unsupported()


def _unsupported() -> Problem:
    return Problem(415, f"Send images as {' or as '.join(map(str, CONTENT_TYPES))}")


ROUTES = tuple(
    Route(path, "POST", "Store Instances", "10.5", Right.STORE, store_instances, OFFERS, content_types=CONTENT_TYPES)
    for path in ("/studies", "/studies/{study}")
)
