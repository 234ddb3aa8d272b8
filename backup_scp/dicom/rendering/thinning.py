"""Leave out rows of an image that is shown much smaller, before the renderer gets and transforms them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAMPLES_ACROSS = 2
_WITH_ALL_ROWS = ("region", "overlays", "shutters", "is_whole", "packed", "rotation")


def thinned(order: Mapping[str, Any], content: bytes | memoryview) -> tuple[Mapping[str, Any], bytes | memoryview]:
    """Return an order and the pixels of its one frame, with about four pixels for each one of a thumbnail.

    Parameters
    ----------
    order
        What the renderer is told, with a ``viewport``; unchanged when its pixels have to stay together.
    content
        The pixels.
    """
    rows, samples, allocated = order["rows"], order["samples"], order["allocated"]
    step = rows // order["viewport"][1] // _SAMPLES_ACROSS
    row_bytes = order["columns"] * samples * allocated // 8
    is_by_rows = allocated % 8 == 0 and not (samples > 1 and order["planar"])
    if step < 2 or not is_by_rows or len(content) < rows * row_bytes or any(map(order.get, _WITH_ALL_ROWS)):
        return {**order, "samples_across": _SAMPLES_ACROSS}, content
    view = memoryview(content)
    kept = [view[at : at + row_bytes] for at in range(0, rows * row_bytes, step * row_bytes)]
    return {**order, "rows": len(kept), "samples_across": _SAMPLES_ACROSS}, b"".join(kept)
