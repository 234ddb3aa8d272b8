"""Send encapsulated documents and videos as they are (PS3.18 8.7.4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from pydicom.uid import EncapsulatedCDAStorage, EncapsulatedPDFStorage, EncapsulatedSTLStorage
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.transcode.stored_frames import video_fragments
from backup_scp.errors import InstanceRefused
from backup_scp.ports import StoredVersion
from backup_scp.services.plain_data_set import plain
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified, ranged
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.bulkdata import find_value
from backup_scp.web.dicomweb.wado.retrieve_frames import media_type_of
from backup_scp.web.media_types import Offer
from backup_scp.web.problems import Problem
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import Part, StreamedResponse

DOCUMENT_CLASSES = {
    str(EncapsulatedPDFStorage): Offer("application/pdf"),
    str(EncapsulatedCDAStorage): Offer("text/xml"),
    str(EncapsulatedSTLStorage): Offer("model/stl"),
}
"""The media type of each kind of document."""

_DOCUMENT, _LENGTH = 0x00420011, 0x00420015


def is_video(transfer_syntax_uid: str) -> bool:
    """Tell whether a Transfer Syntax is that of a video."""
    return media_type_of(transfer_syntax_uid).startswith("video/")


def document_response(request: Request, stores: Stores, held: StoredVersion) -> Response:
    """Return the document of an instance, or a range of it."""
    offer = media_types.require(request, (DOCUMENT_CLASSES[held.sop_class_uid],))
    with ExitStack() as stack:
        file = stack.enter_context(resources.opened(stores, held))
        try:
            data_set = stack.enter_context(plain(file))
            found = find_value(data_set, (_DOCUMENT,))
            said = find_value(data_set, (_LENGTH,))
        except InstanceRefused:
            found = None
        if found is None:
            raise Problem(406, f"SOP Instance {held.sop_instance_uid} has no document")
        position, length, _ = found
        real = int.from_bytes(data_set.read_at(said[0], 4), "little") if said else length
        length = real if length - 1 <= real <= length else length  # without the byte that makes it even
        tag = resources.etag([file.held], f"document {offer}")
        if unchanged := not_modified(request, tag):
            return unchanged
        keep = stack.pop_all()

    def parts(start: int, size: int) -> Iterator[Part]:
        with keep:
            yield from data_set.parts(position + start, size)

    try:
        return ranged(request, parts, length, offer.name, tag)
    except BaseException:
        keep.close()
        raise


def video_response(request: Request, stores: Stores, held: StoredVersion) -> Response:
    """Return the video of an instance."""
    offer = media_types.require(request, (Offer(media_type_of(held.transfer_syntax_uid)),))
    with ExitStack() as stack:
        file = stack.enter_context(resources.opened(stores, held))
        try:
            data_set = stack.enter_context(plain(file))
            fragments = video_fragments(data_set.stream, data_set.read_at, data_set.transfer_syntax_uid)
        except InstanceRefused as error:
            raise Problem(406, f"SOP Instance {held.sop_instance_uid} has no video: {error}") from error
        keep = stack.pop_all()

    def parts() -> Iterator[Part]:
        with keep:
            for fragment in fragments:
                yield from data_set.parts(fragment.offset, fragment.length)

    return StreamedResponse(parts(), offer.name, sum(fragment.length for fragment in fragments))
