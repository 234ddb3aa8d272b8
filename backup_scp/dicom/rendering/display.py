"""Read how the pixels of a Data Set are to be displayed (PS3.3 C.7.6.3, C.11.1, C.11.2; PS3.4 N.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from backup_scp.dicom.data_set import Elements, items
from backup_scp.dicom.rendering.element_numbers import ElementNumbers
from backup_scp.dicom.rendering.planes import PLANE_TAGS, overlays_of, shutters_of
from backup_scp.errors import InstanceRefused, InvalidDataSet

_PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION, _PRESENTATION_LUT_SHAPE = 0x00280004, 0x00280006, 0x20500020
_PADDING_VALUE, _PADDING_LIMIT = 0x00280120, 0x00280121
_CENTER, _WIDTH, _FUNCTION = 0x00281050, 0x00281051, 0x00281056
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_MODALITY_LUTS, _VOI_LUTS, _LUT_DESCRIPTOR, _LUT_DATA = 0x00283000, 0x00283010, 0x00283002, 0x00283006
_PALETTE = ((0x00281101, 0x00281201), (0x00281102, 0x00281202), (0x00281103, 0x00281203))
_SEGMENTED = (0x00281221, 0x00281222, 0x00281223)
_SHARED, _PER_FRAME, _TRANSFORMATION, _FRAME_VOI = 0x52009229, 0x52009230, 0x00289145, 0x00289132
_REPRESENTATIVE_FRAME = 0x00286010
_SAMPLES, _ROWS, _COLUMNS = 0x00280002, 0x00280010, 0x00280011
_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _PIXEL_REPRESENTATION = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_LUT = frozenset((_LUT_DESCRIPTOR, _LUT_DATA))
_GROUPS = frozenset((_TRANSFORMATION, _FRAME_VOI))
_OF_GROUPS = frozenset((_CENTER, _WIDTH, _FUNCTION, _INTERCEPT, _SLOPE))
DISPLAY_TAGS = frozenset(
    {
        *(_PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION, _PRESENTATION_LUT_SHAPE, _PADDING_VALUE, _PADDING_LIMIT),
        *(_MODALITY_LUTS, _VOI_LUTS, _SHARED, _PER_FRAME, _REPRESENTATIVE_FRAME, 0x00280008),
        *(_SAMPLES, _ROWS, _COLUMNS, _BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _PIXEL_REPRESENTATION),
        *_OF_GROUPS,
        *(tag for pair in _PALETTE for tag in pair),
        *(*_SEGMENTED, *PLANE_TAGS),
    }
)
"""The elements that rendering needs."""

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_GREY = frozenset(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", ""))
_COLOURED = frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"))


class Window(NamedTuple):
    """A VOI window (PS3.3 C.11.2.1.2); ``function`` is LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"


class Pixels(NamedTuple):
    """Decoded pixels of one frame, and their form.

    Attributes
    ----------
    content
        Little endian.
    interpretation
        Photometric Interpretation of the decoded pixels; empty when it is that of the Data Set.
    is_by_pixel
        Whether the samples of a pixel are together, whatever Planar Configuration says.
    is_float
        Whether they are floating point numbers.
    """

    content: bytes | memoryview
    interpretation: str = ""
    is_by_pixel: bool = False
    is_float: bool = False


def display_of(elements: Elements, frames: Sequence[int], window: Window | None = None) -> dict[str, Any]:
    """Return how to render frames, as the worker wants to be told.

    Parameters
    ----------
    elements
        Those of ``DISPLAY_TAGS``, in little endian.
    frames
        Their numbers, from 1.
    window
        What the caller wants in place of the Data Set's own.

    Raises
    ------
    InstanceRefused
        Nobody can say how they are to be displayed.
    """
    number = ElementNumbers(elements)
    interpretation = number.text(_PHOTOMETRIC_INTERPRETATION)
    order: dict[str, Any] = {
        "rows": number.one(_ROWS),
        "columns": number.one(_COLUMNS),
        "samples": number.one(_SAMPLES) or 1,
        "allocated": number.one(_BITS_ALLOCATED),
        "stored": number.one(_BITS_STORED) or number.one(_BITS_ALLOCATED),
        "high": number.one(_HIGH_BIT),
        "signed": number.one(_PIXEL_REPRESENTATION) == 1,
        "interpretation": interpretation,
        "planar": number.one(_PLANAR_CONFIGURATION) == 1,
        "inverse": interpretation == "MONOCHROME1" or number.text(_PRESENTATION_LUT_SHAPE) == "INVERSE",
        "numbers": list(frames),
    }
    if interpretation not in (_GREY if order["samples"] == 1 else _COLOURED) or order["samples"] not in {1, 3}:
        raise InstanceRefused(
            f"it cannot be rendered: Photometric Interpretation {interpretation!r} with {order['samples']} samples"
        )
    if _PADDING_VALUE in elements:
        ends = sorted((number.one(_PADDING_VALUE), number.one(_PADDING_LIMIT, number.one(_PADDING_VALUE))))
        order["padding"] = [_with_sign(each, order) for each in ends]
    if overlays := overlays_of(elements, order):
        order["overlays"] = overlays
    if shutters := shutters_of(elements):
        order["shutters"] = shutters
    if interpretation == "PALETTE COLOR":
        if not elements.keys().isdisjoint(_SEGMENTED):
            raise InstanceRefused("it cannot be rendered: its palette is segmented")
        order["palette"] = [_palette(elements, *tags, is_signed=order["signed"]) for tags in _PALETTE]
        return order
    return order | grey_scale_of(elements, window, is_signed=order["signed"]) | _by_frame(elements, frames, window)


def grey_scale_of(elements: Elements, window: Window | None = None, *, is_signed: bool) -> dict[str, Any]:
    """Return the Modality LUT and VOI LUT of an image, as the worker wants to be told (PS3.3 C.11.1, C.11.2).

    Parameters
    ----------
    is_signed
        Whether the stored pixels are.
    """
    number = ElementNumbers(elements)
    order: dict[str, Any] = {"slope": number.decimal(_SLOPE, 1.0), "intercept": number.decimal(_INTERCEPT, 0.0)}
    if modality := lut_of(elements, _MODALITY_LUTS, is_signed=is_signed):
        order["modality_lut"] = modality
    if window := window or _own_window(number):
        order["window"] = list(window)
    elif voi := lut_of(elements, _VOI_LUTS, is_signed=not modality and (is_signed or order["intercept"] < 0)):
        order["voi_lut"] = voi
    return order


def _by_frame(elements: Elements, frames: Sequence[int], window: Window | None) -> dict[str, Any]:
    """Return what functional groups say in place of the rest: for all frames, or as ``each`` for one by one."""
    shared, per_frame = (_functional_groups(elements, tag) for tag in (_SHARED, _PER_FRAME))
    if not shared and not per_frame:
        return {}
    each = []
    for frame in frames:
        own = per_frame[frame - 1] if frame <= len(per_frame) else {}
        number = ElementNumbers({**(shared[0] if shared else {}), **own})
        found: dict[str, Any] = {}
        for name, tag in (("slope", _SLOPE), ("intercept", _INTERCEPT)):
            if (value := number.decimal(tag, math.inf)) != math.inf:
                found[name] = value
        if not window and (own_window := _own_window(number)):
            found["window"] = list(own_window)
        each.append(found)
    return {"each": each} if any(found != each[0] for found in each) else each[0]


def representative_frame(elements: Elements) -> int:
    """Return the number of the frame that stands for all (PS3.3 C.7.6.6); the first when none is named."""
    return ElementNumbers(elements).one(_REPRESENTATIVE_FRAME, 1)


def _with_sign(value: int, order: Mapping[str, Any]) -> int:
    return value - (1 << 16) if order["signed"] and value >= 1 << 15 else value


def _own_window(number: ElementNumbers) -> Window | None:
    width = number.decimal(_WIDTH, 0.0)
    if width <= 0:
        return None
    function = number.text(_FUNCTION)
    return Window(number.decimal(_CENTER, 0.0), width, function if function in _FUNCTIONS else "LINEAR")


def _functional_groups(elements: Elements, tag: int) -> list[Elements]:
    """Read the display elements of each item of a sequence of functional groups (PS3.3 C.7.6.16).

    Raises
    ------
    InstanceRefused
        They cannot be read.
    """
    found: list[Elements] = []
    try:
        for listed in items(elements.get(tag, ("SQ", b""))[1], _GROUPS):
            group: Elements = {}
            for _, value in listed.values():
                group |= next(items(value, _OF_GROUPS), {})
            found.append(group)
    except InvalidDataSet as error:
        raise InstanceRefused(f"it cannot be rendered: its functional groups cannot be read: {error}") from error
    return found


def lut_of(elements: Elements, tag: int, *, is_signed: bool) -> dict[str, Any] | None:
    """Read the first table of a sequence: its first input value, the bits of its output, and its data.

    Parameters
    ----------
    is_signed
        Whether its input is, where the Value Representation does not say it.

    Raises
    ------
    InstanceRefused
        There is a table that cannot be read.
    """
    value = elements.get(tag, ("SQ", b""))[1]
    try:
        item = next(items(value, _LUT), {})
    except InvalidDataSet:
        item = {}
    table = _table(*(item.get(each, ("", b"")) for each in (_LUT_DESCRIPTOR, _LUT_DATA)), is_signed=is_signed)
    if value and not table:
        raise InstanceRefused(f"it cannot be rendered: the lookup table in ({tag >> 16:04X},{tag & 0xFFFF:04X})")
    return table


def _palette(elements: Elements, descriptor: int, data: int, *, is_signed: bool) -> dict[str, Any]:
    table = _table(*(elements.get(each, ("", b"")) for each in (descriptor, data)), is_signed=is_signed)
    if table is None:
        raise InstanceRefused("it cannot be rendered: it has no palette")
    return table


def _table(described: tuple[str, bytes], listed: tuple[str, bytes], *, is_signed: bool) -> dict[str, Any] | None:
    vr, descriptor = described
    data = listed[1]
    if len(descriptor) != 6 or not data:
        return None
    count = int.from_bytes(descriptor[:2], "little") or 1 << 16
    first = int.from_bytes(descriptor[2:4], "little", signed=is_signed or vr == "SS")
    bits = int.from_bytes(descriptor[4:], "little")
    width = 1 if len(data) < 2 * count else 2
    values = [int.from_bytes(data[at : at + width], "little") for at in range(0, min(len(data), count * width), width)]
    return {"first": first, "bits": bits if 0 < bits <= 16 else 16, "values": values}
