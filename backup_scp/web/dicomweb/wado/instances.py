"""Retrieve studies, series and instances: WADO-RS (PS3.18 10.4.1.1.1 to 10.4.1.1.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.ports import StoredVersion
from backup_scp.services.permissions import Right
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified, ranged
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.encodings import EncodedInstance, WantedEncoding, encoded
from backup_scp.web.dicomweb.wado.zipped import ZIP, zip_of
from backup_scp.web.media_types import DICOM, MULTIPART, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.route import Route
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import Part, StreamedResponse

PARTS = Offer(MULTIPART, DICOM)
SINGLE = Offer(DICOM)
OFFERS_OF_ONE = (PARTS, SINGLE, ZIP)
OFFERS_OF_MANY = (PARTS, ZIP)


def retrieve_many(request: Request, stores: Stores) -> Response:
    """Answer a request for a study or a series.

    Instances that cannot be had in an accepted Transfer Syntax are left out, and the status is 206.
    """
    ranges = media_types.accepted(request)
    offer = media_types.require(request, OFFERS_OF_MANY)
    wanted = WantedEncoding.of(ranges, offer)
    held = resources.versions(request, stores)
    possible = [one for one in held if wanted.choice(one.transfer_syntax_uid) is not None]
    if not possible:
        wanted.required(held[0].transfer_syntax_uid)
    status = 200 if len(possible) == len(held) else 206
    if offer == ZIP:
        return zip_of(stores, possible, wanted, status)
    writer = MultipartWriter(DICOM)
    return StreamedResponse(_multipart(stores, possible, wanted, writer), writer.content_type, status=status)


def retrieve_one(request: Request, stores: Stores) -> Response:
    """Answer a request for an instance."""
    ranges = media_types.accepted(request)
    offer = media_types.require(request, OFFERS_OF_ONE)
    wanted = WantedEncoding.of(ranges, offer)
    held = resources.one_version(request, stores)
    syntax = wanted.required(held.transfer_syntax_uid)
    if offer == ZIP:
        return zip_of(stores, [held], wanted)
    tag = resources.etag([held], syntax)
    if offer == SINGLE:
        return not_modified(request, tag) or single_response(request, stores, held, wanted, tag)
    writer = MultipartWriter(DICOM)
    return StreamedResponse(_multipart(stores, [held], wanted, writer), writer.content_type)


def single_response(
    request: Request, stores: Stores, held: StoredVersion, wanted: WantedEncoding, tag: str
) -> Response:
    """Return one instance as a DICOM file, or a range of it."""
    with ExitStack() as stack:
        file = stack.enter_context(resources.opened(stores, held))
        instance = stack.enter_context(encoded(file, wanted))
        keep = stack.pop_all()
    content_type = f"{DICOM}; transfer-syntax={instance.transfer_syntax_uid}"

    def parts(position: int, length: int) -> Iterator[Part]:
        with keep:
            yield from instance.parts(position, length)

    try:
        return ranged(request, parts, instance.size, content_type, tag)
    except BaseException:
        keep.close()
        raise


def _multipart(
    stores: Stores, held: Sequence[StoredVersion], wanted: WantedEncoding, writer: MultipartWriter
) -> Iterator[Part]:
    for number, one in enumerate(held):
        with resources.opened(stores, one) as file, encoded(file, wanted) as instance:
            if number + 1 < len(held):
                stores.archive.announce(held[number + 1].location)
            yield from _part(writer, instance)
    yield writer.end()


def _part(writer: MultipartWriter, instance: EncodedInstance) -> Iterator[Part]:
    """Yield one part; its head together with its first bytes."""
    head = writer.head(f"{DICOM}; transfer-syntax={instance.transfer_syntax_uid}")
    for part in instance.parts(0, instance.size):
        if head and len(part) < 1 << 16:
            head += part
            continue
        yield head + part if head else part
        head = b""
    if head:
        yield head


ROUTES = (
    Route("/studies/{study}", "GET", "Retrieve Study", "10.4", Right.RETRIEVE, retrieve_many, OFFERS_OF_MANY),
    Route(
        "/studies/{study}/series/{series}",
        "GET",
        "Retrieve Series",
        "10.4",
        Right.RETRIEVE,
        retrieve_many,
        OFFERS_OF_MANY,
    ),
    Route(
        "/studies/{study}/series/{series}/instances/{instance}",
        "GET",
        "Retrieve Instance",
        "10.4",
        Right.RETRIEVE,
        retrieve_one,
        OFFERS_OF_ONE,
    ),
)
