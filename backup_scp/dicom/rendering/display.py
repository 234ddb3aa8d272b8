"""Read how the pixels of a Data Set are to be displayed (PS3.3 C.7.6.3, C.11.1, C.11.2; PS3.4 N.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from backup_scp.dicom import character_set
from backup_scp.dicom.data_set import Elements, items
from backup_scp.dicom.value_representation import to_text
from backup_scp.errors import InvalidDataSet

_PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION, _PRESENTATION_LUT_SHAPE = 0x00280004, 0x00280006, 0x20500020
_PADDING_VALUE, _PADDING_LIMIT = 0x00280120, 0x00280121
_CENTER, _WIDTH, _FUNCTION = 0x00281050, 0x00281051, 0x00281056
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_MODALITY_LUTS, _VOI_LUTS, _LUT_DESCRIPTOR, _LUT_DATA = 0x00283000, 0x00283010, 0x00283002, 0x00283006
_PALETTE = ((0x00281101, 0x00281201), (0x00281102, 0x00281202), (0x00281103, 0x00281203))
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
    }
)
"""The elements that rendering needs."""

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


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


def display_of(elements: Elements, frame: int, window: Window | None = None) -> dict[str, Any]:
    """Return how to render a frame, as the worker wants to be told.

    Parameters
    ----------
    elements
        Those of ``DISPLAY_TAGS``, in little endian.
    frame
        Its number, from 1.
    window
        What the caller wants in place of the Data Set's own.
    """
    number = _Numbers(elements)
    groups = _functional_groups(elements, frame)
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
        "slope": groups.decimal(_SLOPE, number.decimal(_SLOPE, 1.0)),
        "intercept": groups.decimal(_INTERCEPT, number.decimal(_INTERCEPT, 0.0)),
    }
    if _PADDING_VALUE in elements:
        ends = sorted((number.one(_PADDING_VALUE), number.one(_PADDING_LIMIT, number.one(_PADDING_VALUE))))
        order["padding"] = [_with_sign(each, order) for each in ends]
    if modality := _lut(elements, _MODALITY_LUTS, is_signed=order["signed"]):
        order["modality_lut"] = modality
    if window := window or _own_window(groups) or _own_window(number):
        order["window"] = list(window)
    elif voi := _lut(elements, _VOI_LUTS, is_signed=order["signed"]):
        order["voi_lut"] = voi
    if interpretation == "PALETTE COLOR":
        order["palette"] = [_palette(elements, *tags) for tags in _PALETTE]
    return order


def representative_frame(elements: Elements) -> int:
    """Return the number of the frame that stands for all (PS3.3 C.7.6.6); the first when none is named."""
    return _Numbers(elements).one(_REPRESENTATIVE_FRAME, 1)


class _Numbers:
    """Reads the first value of elements; nothing for one that is none."""

    def __init__(self, elements: Mapping[int, tuple[str, bytes]]) -> None:
        self._elements = elements

    def text(self, tag: int) -> str:
        vr, value = self._elements.get(tag, ("CS", b""))
        return to_text(vr, vr, value, character_set.DEFAULT).split("\\")[0]

    def one(self, tag: int, otherwise: int = 0) -> int:
        _, value = self._elements.get(tag, ("US", b""))
        return (
            int.from_bytes(value[:2], "little")
            if len(value) in {2, 4} and tag in _BINARY
            else self._int(tag, otherwise)
        )

    def _int(self, tag: int, otherwise: int) -> int:
        return int(self.decimal(tag, otherwise))

    def decimal(self, tag: int, otherwise: float) -> float:
        try:
            number = float(self.text(tag))
        except ValueError:
            return otherwise
        return number if abs(number) < 1e15 else otherwise


_BINARY = frozenset(
    {
        *(_SAMPLES, _ROWS, _COLUMNS, _BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _PIXEL_REPRESENTATION),
        *(_PLANAR_CONFIGURATION, _PADDING_VALUE, _PADDING_LIMIT, _REPRESENTATIVE_FRAME),
    }
)


def _with_sign(value: int, order: Mapping[str, Any]) -> int:
    return value - (1 << 16) if order["signed"] and value >= 1 << 15 else value


def _own_window(number: _Numbers) -> Window | None:
    width = number.decimal(_WIDTH, 0.0)
    if width <= 0:
        return None
    function = number.text(_FUNCTION)
    return Window(number.decimal(_CENTER, 0.0), width, function if function in _FUNCTIONS else "LINEAR")


def _functional_groups(elements: Elements, frame: int) -> _Numbers:
    """Read the groups of a frame (PS3.3 C.7.6.16): its own before the shared ones."""
    found: dict[int, tuple[str, bytes]] = {}
    for tag, position in ((_SHARED, 0), (_PER_FRAME, frame - 1)):
        try:
            listed = list(items(elements.get(tag, ("SQ", b""))[1], _GROUPS))
            if position < len(listed):
                for _, value in listed[position].values():
                    found |= next(items(value, _OF_GROUPS), {})
        except InvalidDataSet:
            continue
    return _Numbers(found)


def _lut(elements: Elements, tag: int, *, is_signed: bool) -> dict[str, Any] | None:
    """Read the first table of a sequence: its first input value, the bits of its output, and its data."""
    try:
        item = next(items(elements.get(tag, ("SQ", b""))[1], _LUT), {})
    except InvalidDataSet:
        return None
    return _table(item.get(_LUT_DESCRIPTOR, ("", b""))[1], item.get(_LUT_DATA, ("", b""))[1], is_signed=is_signed)


def _palette(elements: Elements, descriptor: int, data: int) -> dict[str, Any] | None:
    return _table(elements.get(descriptor, ("", b""))[1], elements.get(data, ("", b""))[1], is_signed=False)


def _table(descriptor: bytes, data: bytes, *, is_signed: bool) -> dict[str, Any] | None:
    if len(descriptor) != 6 or not data:
        return None
    count = int.from_bytes(descriptor[:2], "little") or 1 << 16
    first = int.from_bytes(descriptor[2:4], "little", signed=is_signed)
    bits = int.from_bytes(descriptor[4:], "little")
    width = 1 if len(data) < 2 * count else 2
    values = [int.from_bytes(data[at : at + width], "little") for at in range(0, min(len(data), count * width), width)]
    return {"first": first, "bits": bits if 0 < bits <= 16 else 16, "values": values}
