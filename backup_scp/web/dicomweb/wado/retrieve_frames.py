"""Retrieve frames, as they are stored or decoded, without the other frames (PS3.18 10.4.1.1.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pydicom.uid import ImplicitVRLittleEndian
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.transcode.stored_frames import FrameLayout, decoded_frame
from backup_scp.errors import InstanceRefused
from backup_scp.services.frame_layouts import layout_of
from backup_scp.services.permissions import Right
from backup_scp.services.plain_data_set import PlainDataSet, plain
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.encodings import AS_STORED, DEFAULT, WantedEncoding
from backup_scp.web.media_types import MULTIPART, OCTET_STREAM, MediaType, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.problems import Problem
from backup_scp.web.route import Route
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import Part, StreamedResponse, gathered

MEDIA_TYPES: dict[str, str] = {
    **dict.fromkeys(("50", "51", "53", "55", "57", "70"), "image/jpeg"),
    **dict.fromkeys(("80", "81"), "image/jls"),
    **dict.fromkeys(("90", "91"), "image/jp2"),
    **dict.fromkeys(("92", "93"), "image/jpx"),
    **dict.fromkeys(("201", "202", "203"), "image/jphc"),
    **dict.fromkeys(("110", "111", "112"), "image/jxl"),
    **dict.fromkeys(("100", "100.1", "101", "101.1"), "video/mpeg"),
    **dict.fromkeys(("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1"), "video/mp4"),
    **dict.fromkeys(("107", "108"), "video/H265"),
}
"""Media types of compressed frames by the end of their Transfer Syntax (PS3.18 Tables 8.7.3-3 to -5)."""

_COMPRESSED = "1.2.840.10008.1.2.4."
_RLE = "1.2.840.10008.1.2.5"
_MOST_LISTED = 10_000
OFFERS = (
    Offer(MULTIPART, OCTET_STREAM),
    *(Offer(MULTIPART, name) for name in dict.fromkeys((*MEDIA_TYPES.values(), "image/dicom-rle"))),
    Offer(OCTET_STREAM),
)


def media_type_of(transfer_syntax_uid: str) -> str:
    """Return the media type of a frame as it is stored; that of bytes for uncompressed and unknown ones."""
    if transfer_syntax_uid == _RLE:
        return "image/dicom-rle"
    if not transfer_syntax_uid.startswith(_COMPRESSED):
        return OCTET_STREAM
    return MEDIA_TYPES.get(transfer_syntax_uid.removeprefix(_COMPRESSED), OCTET_STREAM)


@dataclass(frozen=True)
class FrameForm:
    """How frames are sent.

    Attributes
    ----------
    media_type
        Of each.
    transfer_syntax_uid
        Of each.
    is_multipart
        Whether as parts, or as one body.
    is_stored
        Whether as stored; otherwise decoded.
    """

    media_type: str
    transfer_syntax_uid: str
    is_multipart: bool
    is_stored: bool

    @property
    def content_type(self) -> str:
        """Content-Type of each; always with the Transfer Syntax, without which some viewers show black."""
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax_uid}"


def form_for(ranges: Sequence[MediaType], stored: str, *, is_encapsulated: bool, is_one: bool) -> FrameForm:
    """Choose how frames are sent (PS3.18 8.7.3.3).

    Raises
    ------
    Problem
        406
    """
    compressed = media_type_of(stored) if is_encapsulated else OCTET_STREAM
    for each in ranges:
        if each.q <= 0:
            continue
        for is_multipart in (True, False) if is_one else (True,):
            name = MULTIPART if is_multipart else ""
            if each.covers(name or OCTET_STREAM, OCTET_STREAM if is_multipart else ""):
                form = _as_bytes(each.transfer_syntax or DEFAULT, stored, is_encapsulated=is_encapsulated)
                if form is not None:
                    return FrameForm(OCTET_STREAM, form[0], is_multipart, form[1])
            is_asked = compressed != OCTET_STREAM and each.transfer_syntax in {"", AS_STORED, stored}
            if is_asked and each.covers(name or compressed, compressed if is_multipart else ""):
                return FrameForm(compressed, stored, is_multipart, is_stored=True)
    possible = [f'{MULTIPART}; type="{OCTET_STREAM}"; transfer-syntax=*']
    possible += [f'{MULTIPART}; type="{compressed}"'] if compressed != OCTET_STREAM else []
    raise media_types.not_acceptable(possible)


def _as_bytes(asked: str, stored: str, *, is_encapsulated: bool) -> tuple[str, bool] | None:
    """Return the Transfer Syntax of bytes, and whether they are as stored; None when they cannot be had."""
    if not is_encapsulated:  # the same bytes in all of them, once they are little endian
        return (DEFAULT, True) if asked in {AS_STORED, DEFAULT, ImplicitVRLittleEndian, stored} else None
    if asked in {AS_STORED, stored}:
        return stored, True
    return (DEFAULT, False) if asked == DEFAULT and WantedEncoding((DEFAULT,)).choice(stored) else None


def numbers_of(text: str) -> list[int]:
    """Read a list of frame numbers.

    Raises
    ------
    Problem
        400
    """
    parts = text.split(",")
    if len(parts) > _MOST_LISTED or not all(part.isdecimal() and part.isascii() and len(part) < 10 for part in parts):
        raise Problem(400, f"Frames are a list such as 1,2,5, of at most {_MOST_LISTED} numbers")
    numbers = [int(part) for part in parts]
    if 0 in numbers:
        raise Problem(400, "The first frame is 1")
    return numbers


def frames(request: Request, stores: Stores) -> Response:
    """Answer a request for frames."""
    return frames_response(request, stores, numbers_of(request.path_params["frames"]))


def frames_response(request: Request, stores: Stores, numbers: Sequence[int] | None) -> Response:
    """Return frames of the instance of a request; None is all of them."""
    ranges = media_types.accepted(request)
    held = resources.one_version(request, stores)
    with ExitStack() as stack:
        file = stack.enter_context(resources.opened(stores, held))
        try:
            data_set = stack.enter_context(plain(file))
            layout = layout_of(data_set, file.held.sha256)
            listed = list(numbers or range(1, layout.number_of_frames + 1))
            if max(listed) > layout.number_of_frames:
                raise Problem(404, f"There is no frame {max(listed)}: the last one is {layout.number_of_frames}")
            layout.require(max(listed))
        except InstanceRefused as error:
            raise Problem(404, f"SOP Instance {held.sop_instance_uid} has no such frames: {error}") from error
        stored = data_set.transfer_syntax_uid
        form = form_for(ranges, stored, is_encapsulated=layout.is_encapsulated, is_one=len(listed) == 1)
        tag = resources.etag([file.held], f"frames {listed} {form}")
        if unchanged := not_modified(request, tag):
            return unchanged
        writer = MultipartWriter(form.media_type) if form.is_multipart else None
        body = _body(layout, listed, data_set, form, writer)
        size = _size(layout, listed, form, MultipartWriter(form.media_type)) if form.is_stored else None
        keep = stack.pop_all()

    def parts() -> Iterator[Part]:
        with keep:
            yield from body

    content_type = writer.content_type if writer else form.content_type
    headers = {"etag": f"W/{tag}" if writer else tag}
    try:
        return StreamedResponse(gathered(parts()), content_type, size, headers)
    except InstanceRefused as error:
        raise Problem(
            406, f"Frames of SOP Instance {held.sop_instance_uid} cannot be decoded: {error}; ask for transfer-syntax=*"
        ) from error


def _size(layout: FrameLayout, numbers: Sequence[int], form: FrameForm, writer: MultipartWriter) -> int:
    size = sum(map(layout.size_of, numbers))
    if not form.is_multipart:
        return size
    return size + sum(len(writer.head(form.content_type)) for _ in numbers) + len(writer.end())


def _body(
    layout: FrameLayout,
    numbers: Sequence[int],
    data_set: PlainDataSet,
    form: FrameForm,
    writer: MultipartWriter | None,
) -> Iterator[Part]:
    for number in numbers:
        head = writer.head(form.content_type) if writer else b""
        parts = frame_parts(layout, number, data_set, is_stored=form.is_stored)
        yield head + next(parts, b"")
        yield from parts
    if writer:
        yield writer.end()


def frame_parts(layout: FrameLayout, number: int, data_set: PlainDataSet, *, is_stored: bool) -> Iterator[Part]:
    """Yield the bytes of a frame, as stored or decoded."""
    if not is_stored:
        pixels, _, _ = decoded_frame(layout, number, data_set.read_at, data_set.transfer_syntax_uid)
        yield bytes(pixels)
    elif layout.is_encapsulated:
        for fragment in layout.fragments[number - 1]:
            yield from data_set.parts(fragment.offset, fragment.length)
    elif (position := layout.native_position(number)) is None:
        yield layout.shifted(number, data_set.read_at)
    else:
        yield from data_set.parts(position, layout.size_of(number))


ROUTES = (
    Route(
        "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
        "GET",
        "Retrieve Frames",
        "10.4",
        Right.RETRIEVE,
        frames,
        OFFERS,
    ),
)
