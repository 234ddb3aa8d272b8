"""Read the planes of a Data Set that lie on its pixels: overlays and shutters (PS3.3 C.9.2, C.7.6.11)."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any

from backup_scp.dicom.data_set import Elements
from backup_scp.dicom.rendering.element_numbers import ElementNumbers
from backup_scp.errors import InstanceRefused

_GROUPS = range(0x6000, 0x6020, 2)
_ROWS, _COLUMNS, _FRAMES, _ORIGIN, _FIRST = 0x0010, 0x0011, 0x0015, 0x0050, 0x0051
_ALLOCATED, _POSITION, _LAYER, _DATA = 0x0100, 0x0102, 0x1001, 0x3000
_SHAPE, _VALUE, SHUTTER_OVERLAY = 0x00181600, 0x00181622, 0x00181623
_EDGES = (0x00181602, 0x00181604, 0x00181606, 0x00181608)
_CENTER, _RADIUS, _VERTICES = 0x00181610, 0x00181612, 0x00181620
_MOST_VERTICES = 1000
_WHITE, _BLACK = 255, 0
PLANE_TAGS = frozenset(
    {
        *(_SHAPE, _VALUE, *_EDGES, _CENTER, _RADIUS, _VERTICES),
        *(
            group << 16 | element
            for group in _GROUPS
            for element in (_ROWS, _COLUMNS, _FRAMES, _ORIGIN, _FIRST, _ALLOCATED, _POSITION, _LAYER, _DATA)
        ),
    }
)
"""The elements of overlays and shutters."""


def overlays_of(
    elements: Elements, image: Mapping[str, Any], groups: Collection[int] = _GROUPS, level: int = _WHITE
) -> list[dict[str, Any]]:
    """Return the overlays of a Data Set, as the worker wants to be told: as bits, or as a bit of the pixels.

    Parameters
    ----------
    image
        The order so far: how its pixels are stored.
    groups
        Those that are displayed.
    level
        The grey level that they get.

    Raises
    ------
    InstanceRefused
        There is one that cannot be read.
    """
    found = []
    for group in groups:
        number = ElementNumbers({tag & 0xFFFF: value for tag, value in elements.items() if tag >> 16 == group})
        _, data = elements.get(group << 16 | _DATA, ("OW", b""))
        rows, columns = number.one(_ROWS), number.one(_COLUMNS)
        is_in_pixels = not data and number.one(_ALLOCATED, 1) > 1
        if not rows or not columns or not (data or is_in_pixels):
            continue
        top, left = [int(each) for each in number.decimals(_ORIGIN)] if number.texts(_ORIGIN) else (1, 1)
        overlay: dict[str, Any] = {"rows": rows, "columns": columns, "top": top - 1, "left": left - 1, "level": level}
        overlay |= {"first": number.one(_FIRST, 1), "count": number.one(_FRAMES)}
        if is_in_pixels:
            overlay["bit"] = _free_bit(number.one(_POSITION), image)
        elif len(data) * 8 < rows * columns * max(1, overlay["count"]):
            raise InstanceRefused(f"it cannot be rendered: the overlay in group {group:04X} is not whole")
        else:
            overlay["bits"] = base64.b64encode(data).decode()
        found.append(overlay)
    return found


def _free_bit(position: int, image: Mapping[str, Any]) -> int:
    """Return the bit of an overlay in the pixels; no bit of a pixel's value may be one."""
    above = image["high"] + 1
    if above - image["stored"] <= position < above or position >= image["allocated"] or image["samples"] != 1:
        raise InstanceRefused("it cannot be rendered: an overlay is said to be in the bits of the pixels themselves")
    return position


def overlay_layers(elements: Elements) -> dict[int, str]:
    """Return the groups that a presentation state activates, and the layer of each."""
    layers = {group: ElementNumbers(elements).text(group << 16 | _LAYER) for group in _GROUPS}
    return {group: layer for group, layer in layers.items() if layer}


def shutters_of(elements: Elements) -> dict[str, Any]:
    """Return the shutters of a Data Set, as the worker wants to be told; empty without any.

    Raises
    ------
    InstanceRefused
        There is one that cannot be read.
    """
    number = ElementNumbers(elements)
    found: dict[str, Any] = {}
    for shape in number.texts(_SHAPE):
        if shape == "RECTANGULAR":
            found["rectangle"] = [number.decimal(tag, -1) for tag in _EDGES]
            is_readable = min(found["rectangle"]) >= 0
        elif shape == "CIRCULAR":
            found["circle"] = [*number.decimals(_CENTER), number.decimal(_RADIUS, -1)]
            is_readable = len(found["circle"]) == 3 and found["circle"][2] >= 0
        elif shape == "POLYGONAL":
            found["polygon"] = number.decimals(_VERTICES)
            is_readable = 6 <= len(found["polygon"]) <= 2 * _MOST_VERTICES and len(found["polygon"]) % 2 == 0
        else:
            is_readable = shape == "BITMAP"
        if not is_readable:
            raise InstanceRefused(f"it cannot be rendered: its shutter ({shape}) cannot be read")
    return found | {"level": shutter_level(elements)} if found else {}


def shutter_level(elements: Elements) -> int:
    """Return the grey level of what shutters hide; black when it is not said."""
    return ElementNumbers(elements).one(_VALUE, _BLACK) * _WHITE // 0xFFFF
