"""Retrieve single long values by the URIs that metadata has (PS3.18 10.4.1.1.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

from pydicom.uid import ImplicitVRLittleEndian
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.transcode.element_walk import EXPLICIT, IMPLICIT, PIXEL_DATA, Kind, Walk
from backup_scp.errors import InstanceRefused
from backup_scp.services.permissions import Right
from backup_scp.services.plain_data_set import PlainDataSet, plain
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified, ranged
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.encodings import DEFAULT
from backup_scp.web.dicomweb.wado.retrieve_frames import frames_response
from backup_scp.web.media_types import MULTIPART, OCTET_STREAM, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.problems import Problem
from backup_scp.web.route import Route
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import Part, StreamedResponse, gathered

OFFERS = (Offer(MULTIPART, OCTET_STREAM), Offer(OCTET_STREAM))
_MOST_SEPARATORS = 200
_PATH = re.compile(r"(?:[0-9A-Fa-f]{8}/[0-9]{1,9}/)*[0-9A-Fa-f]{8}")
_CONTENT_TYPE = f"{OCTET_STREAM}; transfer-syntax={DEFAULT}"


def path_of(text: str) -> tuple[int, ...]:
    """Read the path of a value: its tag, behind tag and item number of each sequence around it.

    Raises
    ------
    Problem
        400
    """
    if not _PATH.fullmatch(text) or text.count("/") > _MOST_SEPARATORS:
        raise Problem(
            400, "A bulkdata path is a tag of 8 hex digits, behind tag and item number of each sequence around it"
        )
    return tuple(int(part, 10 if number % 2 else 16) for number, part in enumerate(text.split("/")))


def bulkdata(request: Request, stores: Stores) -> Response:
    """Answer a request for one value; compressed Pixel Data comes as its frames."""
    offer = media_types.require(request, (*OFFERS, Offer(MULTIPART)))
    path = path_of(request.path_params["path"])
    held = resources.one_version(request, stores)
    with ExitStack() as stack:
        file = stack.enter_context(resources.opened(stores, held))
        try:
            data_set = stack.enter_context(plain(file))
            found = find_value(data_set, path)
        except InstanceRefused as error:
            raise Problem(404, f"SOP Instance {held.sop_instance_uid} has no such value: {error}") from error
        if found is None:
            raise Problem(404, f"SOP Instance {held.sop_instance_uid} has no value at this path: its metadata has URIs")
        position, length, kind = found
        if kind is Kind.ENCAPSULATED:
            if path != (PIXEL_DATA,):
                raise Problem(404, "Compressed pixels in a sequence cannot be had alone: ask for the instance")
            stack.close()
            return frames_response(request, stores, None)
        tag = resources.etag([file.held], f"bulkdata {path} {offer}")
        if unchanged := not_modified(request, tag):
            return unchanged
        keep = stack.pop_all()

    def parts(start: int, size: int) -> Iterator[Part]:
        with keep:
            yield from data_set.parts(position + start, size)

    if offer.name == OCTET_STREAM:
        try:
            return ranged(request, parts, length, _CONTENT_TYPE, tag)
        except BaseException:
            keep.close()
            raise
    writer = MultipartWriter(OCTET_STREAM)
    body = _one_part(writer, parts(0, length))
    return StreamedResponse(gathered(body), writer.content_type, headers={"etag": f"W/{tag}"})


def _one_part(writer: MultipartWriter, parts: Iterator[Part]) -> Iterator[Part]:
    yield writer.head(_CONTENT_TYPE) + next(parts, b"")
    yield from parts
    yield writer.end()


def find_value(data_set: PlainDataSet, path: tuple[int, ...]) -> tuple[int, int, Kind] | None:
    """Return position, length and kind of the value at a path; None when there is none.

    Raises
    ------
    InstanceRefused
        The Data Set cannot be read that far.
    """
    data_set.stream.seek(0)
    encoding = IMPLICIT if data_set.transfer_syntax_uid == ImplicitVRLittleEndian else EXPLICIT
    around: list[int] = []  # tag and item number of each open sequence
    for token in Walk(data_set.stream, encoding, data_set.size_bytes, into_unknown=True):
        match token.kind:
            case Kind.SEQUENCE:
                around += [token.tag, 0]
            case Kind.ITEM:
                around[-1] += 1
            case Kind.END_SEQUENCE:
                del around[-2:]
            case Kind.ELEMENT | Kind.ENCAPSULATED:
                if token.tag == path[-1] and (*around, token.tag) == path:
                    return token.offset, token.length, token.kind
    return None


ROUTES = (
    Route(
        "/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path:path}",
        "GET",
        "Retrieve Bulkdata",
        "10.4",
        Right.RETRIEVE,
        bulkdata,
        OFFERS,
    ),
)
