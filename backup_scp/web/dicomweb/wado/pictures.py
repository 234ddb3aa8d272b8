"""Render frames of a stored instance as JPEG, PNG or GIF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backup_scp.dicom.data_set import Elements, find_pixels
from backup_scp.dicom.rendering import DISPLAY_TAGS, Pixels, display_of, render, thinned
from backup_scp.dicom.rendering.display import representative_frame
from backup_scp.dicom.rendering.softcopy_state import SoftcopyState
from backup_scp.dicom.transcode.stored_frames import FrameLayout, decoded_frame
from backup_scp.errors import InstanceRefused, InvalidDataSet
from backup_scp.ports import StoredVersion
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.plain_data_set import PlainDataSet, plain
from backup_scp.web.dicomweb.wado.rendering_request import RenderingRequest
from backup_scp.web.dicomweb.wado.retrieve_frames import layout_of
from backup_scp.web.media_types import Offer
from backup_scp.web.problems import Problem
from backup_scp.web.stores import Stores

JPEG, PNG, GIF = Offer("image/jpeg"), Offer("image/png"), Offer("image/gif")
FORMATS = {JPEG.name: "jpeg", PNG.name: "png", GIF.name: "gif"}
_MOST_IN_MOTION = 500
_MOST_MOVING_BYTES = 256 << 20
_FLOAT = 0x7FE00008, 0x7FE00009


def number_of_frames(stores: Stores, held: StoredVersion) -> int:
    """Return how many frames an instance has.

    Raises
    ------
    InstanceRefused
        It has no pixels.
    """
    with resources.opened(stores, held) as file, plain(file) as data_set:
        return layout_of(data_set, file.held.sha256).number_of_frames


def picture(
    stores: Stores,
    held: StoredVersion,
    numbers: Sequence[int] | None,
    offer: Offer,
    wanted: RenderingRequest,
    state: SoftcopyState | None = None,
) -> bytes:
    """Render frames: the one that stands for all without ``numbers``, all in motion for an empty list.

    Parameters
    ----------
    state
        Says how, in place of the image.

    Raises
    ------
    InstanceRefused
        It has no pixels, or they cannot be rendered.
    Problem
        404: there is no such frame.
    """
    with resources.opened(stores, held) as file, plain(file) as data_set:
        layout = layout_of(data_set, file.held.sha256)
        elements, is_float = _elements(data_set)
        last = layout.number_of_frames
        listed = _listed(layout, numbers, elements)
        if max(listed) > last:
            raise Problem(404, f"There is no frame {max(listed)}: the last one is {last}")
        layout.require(max(listed))
        pixels = [_pixels(layout, number, data_set) for number in listed]
        order: dict[str, Any] = display_of(elements, listed, wanted.window)
        if state:
            order = state.applied(order, elements, held.sop_instance_uid)
            order |= wanted.order_of_area(order)
        else:
            order |= wanted.order(order["rows"], order["columns"])
        first = pixels[0]
        order["format"], order["float"] = FORMATS[offer.name], is_float
        if first.is_by_pixel:
            order |= {"planar": False, "interpretation": first.interpretation}
        elif order["interpretation"] == "YBR_FULL_422":
            order["packed"] = True
        if not wanted.is_thumbnail:
            return render(order, [each.content for each in pixels])
        fewer, content = thinned(order, first.content)
    return render(fewer, [content])


def _listed(layout: FrameLayout, numbers: Sequence[int] | None, elements: Elements) -> Sequence[int]:
    last = layout.number_of_frames
    if numbers is None:
        return [min(representative_frame(elements), last)]
    if numbers:
        return numbers
    if last > _MOST_IN_MOTION or last * max(1, layout.frame_bits // 8) > _MOST_MOVING_BYTES:
        raise InstanceRefused(f"it has too much for one GIF ({last} frames): ask for frames, or as image/jpeg")
    return range(1, last + 1)


def _elements(data_set: PlainDataSet) -> tuple[Elements, bool]:
    data_set.stream.seek(0)
    try:
        found = find_pixels(data_set.stream, data_set.transfer_syntax_uid, DISPLAY_TAGS)
    except InvalidDataSet as error:
        raise InstanceRefused(f"it cannot be read: {error}") from error
    if found is None:
        raise InstanceRefused("it has no pixels")
    return found.elements, found.tag in _FLOAT


def _pixels(layout: FrameLayout, number: int, data_set: PlainDataSet) -> Pixels:
    if layout.is_encapsulated:
        pixels, image, codestream = decoded_frame(layout, number, data_set.read_at, data_set.transfer_syntax_uid)
        return Pixels(pixels, image.interpretation_of(codestream), is_by_pixel=True)
    if (position := layout.native_position(number)) is None:
        return Pixels(layout.shifted(number, data_set.read_at))
    return Pixels(data_set.view_at(position, layout.size_of(number)))
