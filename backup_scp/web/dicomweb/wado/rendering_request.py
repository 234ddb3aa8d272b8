"""Read the query parameters of rendered resources (PS3.18 8.3.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from backup_scp.dicom.rendering import Window
from backup_scp.services.renderable_frames import fitted
from backup_scp.web.problems import Problem

PARAMETERS = ("window", "viewport", "quality", "accept")
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_MOST_PIXELS = 16_384
_QUALITY = 90
_THUMBNAIL = (200, 200)


@dataclass(frozen=True)
class RenderingRequest:
    """How a caller wants an image.

    Attributes
    ----------
    window
        In place of the image's own.
    viewport
        Width and height that it must fit into; None is its own size.
    region
        Left, top, width and height of the part that is shown; a negative size mirrors it.
    quality
        Of JPEG, 1 to 100.
    share
        Left, top, right and bottom of the part that is shown, as shares of the image, in place of ``region``.
    is_thumbnail
        Whether few pixels stand for the image.
    """

    window: Window | None = None
    viewport: tuple[int, int] | None = None
    region: tuple[int, int, int, int] | None = None
    quality: int = _QUALITY
    share: tuple[float, float, float, float] | None = None
    is_thumbnail: bool = False

    @classmethod
    def read(cls, query: QueryParams, *, is_thumbnail: bool = False) -> RenderingRequest:
        """Read the parameters.

        Raises
        ------
        Problem
            400
        """
        for name in ("annotation", "iccprofile"):
            if query.get(name, "no") != "no":
                raise Problem(400, f"{name} is not offered: leave it out")
        viewport, region = _viewport(query.get("viewport", ""))
        if is_thumbnail:
            return cls(viewport=viewport or _THUMBNAIL, is_thumbnail=True)
        return cls(_window(query.get("window", "")), viewport, region, quality_of(query.get("quality", "")))

    def order(self, rows: int, columns: int) -> Mapping[str, object]:
        """Return what the renderer is told, for an image of this size.

        Raises
        ------
        Problem
            400
        """
        order: dict[str, object] = {"quality": self.quality}
        width, height = columns, rows
        if self.region:
            left, top, width, height = self.region
            order["flips"] = (width < 0, height < 0)
            width, height = abs(width) or columns - left, abs(height) or rows - top
            if left >= columns or top >= rows:
                raise Problem(400, f"viewport: the image has {columns} columns and {rows} rows")
            width, height = min(width, columns - left), min(height, rows - top)
            order["region"] = (left, top, width, height)
        elif self.share:
            left, right = (int(share * columns) for share in self.share[::2])
            top, bottom = (int(share * rows) for share in self.share[1::2])
            width, height = max(1, right - left), max(1, bottom - top)
            order["region"] = (min(left, columns - 1), min(top, rows - 1), width, height)
        if self.viewport:
            order |= fitted(self.viewport, width, height)
        return order

    def order_of_area(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the renderer is told, for the area that a presentation state shows.

        It is scaled to the viewport; one that the state magnifies keeps its scale, and is cut (PS3.18 9.5.2.3).

        Raises
        ------
        Problem
            400
        """
        if self.window or self.region or self.share:
            raise Problem(400, "A presentation state says window and area itself: ask for viewport=WIDTH,HEIGHT alone")
        width, height = order["area"]
        found: dict[str, Any] = {"quality": self.quality, "viewport": order["area"], "size": order["area"]}
        if not self.viewport:
            return found
        if not order["is_magnified"]:
            return found | fitted(self.viewport, width, height)
        return found | {"cut": self.viewport}


def _window(text: str) -> Window | None:
    if not text:
        return None
    parts = text.split(",")
    try:
        center, width = float(parts[0]), float(parts[1])
        function = _FUNCTIONS[parts[2].lower()] if len(parts) > 2 else "LINEAR"
    except (ValueError, IndexError, KeyError):
        center = width = math.nan
    if len(parts) > 3 or not math.isfinite(center) or not 0 < width < math.inf:
        raise Problem(400, "window is CENTER,WIDTH,FUNCTION, with linear, linear-exact or sigmoid as function")
    return Window(center, width, function)


def _viewport(text: str) -> tuple[tuple[int, int] | None, tuple[int, int, int, int] | None]:
    if not text:
        return None, None
    try:
        numbers = [_whole_number(part) for part in text.split(",")]
    except (ValueError, OverflowError):
        numbers = []
    is_size = len(numbers) in {2, 6} and all(0 < each <= _MOST_PIXELS for each in numbers[:2])
    if not is_size or min(numbers[2:4], default=0) < 0 or any(abs(each) > 1 << 16 for each in numbers):
        raise Problem(
            400,
            f"viewport is WIDTH,HEIGHT, of 1 to {_MOST_PIXELS}, perhaps with LEFT,TOP,WIDTH,HEIGHT of the part to show",
        )
    region = (numbers[2], numbers[3], numbers[4], numbers[5]) if len(numbers) == 6 else None
    return (numbers[0], numbers[1]), region


def _whole_number(text: str) -> int:
    """Return a whole number: decimals are those of a part of the image, and are rounded (PS3.18 8.3.5.1.3)."""
    return round(float(text)) if text else 0


def quality_of(text: str) -> int:
    """Read the quality of JPEG.

    Raises
    ------
    Problem
        400
    """
    if not text:
        return _QUALITY
    if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:4]) <= 100:
        raise Problem(400, "quality is a number from 1 to 100")
    return int(text)
