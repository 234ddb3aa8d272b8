"""Render frames of a stored instance as JPEG, PNG or GIF: each byte of it is compared before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from backup_scp.dicom.data_set import Elements, find_pixels
from backup_scp.dicom.rendering import DISPLAY_TAGS, Pixels, Window, display_of, render, thinned
from backup_scp.dicom.rendering.display import representative_frame
from backup_scp.dicom.rendering.softcopy_state import SoftcopyState
from backup_scp.dicom.transcode.stored_frames import FrameLayout, decoded_frame
from backup_scp.errors import InstanceRefused, InvalidDataSet
from backup_scp.services.frame_layouts import layout_of
from backup_scp.services.plain_data_set import PlainDataSet, plain
from backup_scp.services.verified_files import VerifiedFile

_FLOAT = 0x7FE00008, 0x7FE00009


class WantedPicture(Protocol):
    """How a picture is wanted."""

    @property
    def window(self) -> Window | None:
        """In place of the image's own."""

    @property
    def is_thumbnail(self) -> bool:
        """Whether few pixels stand for the image."""

    def order(self, rows: int, columns: int) -> Mapping[str, object]:
        """Return what the renderer is told, for an image of this size."""

    def order_of_area(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the renderer is told, for the area that a presentation state shows."""


def fitted(viewport: tuple[int, int], width: float, height: float) -> dict[str, object]:
    """Return what the renderer is told, so that a picture of this size fits into a viewport."""
    scale = min(viewport[0] / width, viewport[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return {"viewport": size, "size": size}


@dataclass(frozen=True)
class WholePicture:
    """A picture of the whole image, as it wants to be displayed itself.

    Attributes
    ----------
    viewport
        Width and height that a larger image is scaled to; None is its own size.
    quality
        Of JPEG, 1 to 100.
    """

    viewport: tuple[int, int] | None = None
    quality: int = 90
    window: Window | None = None
    is_thumbnail: bool = False

    def order(self, rows: int, columns: int) -> Mapping[str, object]:
        found: dict[str, object] = {"quality": self.quality}
        if self.viewport and (columns > self.viewport[0] or rows > self.viewport[1]):
            found |= fitted(self.viewport, columns, rows)
        return found

    def order_of_area(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.order(*reversed(order["area"]))


class RenderableFrames:
    """The frames of one Data Set, while it is open.

    Attributes
    ----------
    count
        How many there are.
    frame_bytes
        Of one, decoded.
    """

    def __init__(self, held_uid: str, data_set: PlainDataSet, layout: FrameLayout) -> None:
        self._uid, self._data_set, self._layout = held_uid, data_set, layout
        self.count = layout.number_of_frames
        self.frame_bytes = max(1, layout.frame_bits // 8)

    @classmethod
    @contextmanager
    def of(cls, file: VerifiedFile) -> Iterator[RenderableFrames]:
        """Find the frames of an open file.

        Raises
        ------
        InstanceRefused
            It has no pixels, or they cannot be found.
        """
        with plain(file) as data_set:
            yield cls(file.held.sop_instance_uid, data_set, layout_of(data_set, file.held.sha256))

    @property
    def representative(self) -> int:
        """The number of the frame that stands for all."""
        return min(representative_frame(self._display[0]), self.count)

    @cached_property
    def _display(self) -> tuple[Elements, bool]:
        """What says how to display the pixels, and whether they are floating point numbers."""
        self._data_set.stream.seek(0)
        try:
            found = find_pixels(self._data_set.stream, self._data_set.transfer_syntax_uid, DISPLAY_TAGS)
        except InvalidDataSet as error:
            raise InstanceRefused(f"it cannot be read: {error}") from error
        if found is None:
            raise InstanceRefused("it has no pixels")
        return found.elements, found.tag in _FLOAT

    def rendered(
        self, numbers: Sequence[int], form: str, wanted: WantedPicture, state: SoftcopyState | None = None
    ) -> bytes:
        """Render frames into one file.

        Parameters
        ----------
        numbers
            From 1 to ``count``; several only for a GIF.
        form
            ``jpeg``, ``png`` or ``gif``.
        wanted
            How.
        state
            Says how, in place of the image.

        Raises
        ------
        InstanceRefused
            They cannot be rendered.
        Damaged
        """
        self._layout.require(max(numbers))
        elements, is_float = self._display
        pixels = [self._pixels(number) for number in numbers]
        order: dict[str, Any] = display_of(elements, numbers, wanted.window)
        if state:
            order = state.applied(order, elements, self._uid)
            order |= wanted.order_of_area(order)
        else:
            order |= wanted.order(order["rows"], order["columns"])
        first = pixels[0]
        order["format"], order["float"] = form, is_float
        if first.is_by_pixel:
            order |= {"planar": False, "interpretation": first.interpretation}
        elif order["interpretation"] == "YBR_FULL_422":
            order["packed"] = True
        if not wanted.is_thumbnail:
            return render(order, [each.content for each in pixels])
        fewer, content = thinned(order, first.content)
        return render(fewer, [content])

    def _pixels(self, number: int) -> Pixels:
        layout, data_set = self._layout, self._data_set
        if layout.is_encapsulated:
            pixels, image, codestream = decoded_frame(layout, number, data_set.read_at, data_set.transfer_syntax_uid)
            return Pixels(pixels, image.interpretation_of(codestream), is_by_pixel=True)
        if (position := layout.native_position(number)) is None:
            return Pixels(layout.shifted(number, data_set.read_at))
        return Pixels(data_set.view_at(position, layout.size_of(number)))
