"""Read Grayscale Softcopy Presentation States, and what one says of an image (PS3.3 A.33.1, PS3.4 N.2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from backup_scp.dicom.data_set import Elements, items, read
from backup_scp.dicom.rendering.display import grey_scale_of, lut_of
from backup_scp.dicom.rendering.element_numbers import ElementNumbers
from backup_scp.dicom.rendering.planes import (
    SHUTTER_OVERLAY,
    overlay_layers,
    overlays_of,
    shutter_level,
    shutters_of,
)
from backup_scp.errors import InstanceRefused, InvalidDataSet

SOP_CLASS = str(GrayscaleSoftcopyPresentationStateStorage)

_SERIES, _IMAGES = 0x00081115, 0x00081140
_SERIES_UID, _INSTANCE_UID, _FRAMES = 0x0020000E, 0x00081155, 0x00081160
_SOFTCOPY_VOI_LUTS, _AREAS = 0x00283110, 0x0070005A
_PRESENTATION_LUTS, _PRESENTATION_LUT_SHAPE = 0x20500010, 0x20500020
_ROTATION, _FLIP = 0x00700042, 0x00700041
_TOP_LEFT, _BOTTOM_RIGHT, _SIZE_MODE = 0x00700052, 0x00700053, 0x00700100
_SPACING, _ASPECT_RATIO, _MAGNIFICATION = 0x00700101, 0x00700102, 0x00700103
_NOT_DRAWN = {
    0x00700001: "annotations (Graphic Annotation Sequence)",
    0x00700209: "compound graphics",
    0x00286100: "a mask that is subtracted",
}
_ALL = range(1 << 32)
_MOST_BYTES = 16 << 20
_MOST_PIXELS = 16_384


class PresentedImage(NamedTuple):
    """An image that a presentation state is for; no ``frames`` are all of them."""

    series_instance_uid: str
    sop_instance_uid: str
    frames: tuple[int, ...]


@dataclass(frozen=True)
class SoftcopyState:
    """A presentation state.

    Attributes
    ----------
    references
        The images that it is for, in its order.
    """

    references: tuple[PresentedImage, ...]
    _elements: Elements

    @classmethod
    def of(cls, data_set: bytes, transfer_syntax_uid: str) -> SoftcopyState:
        """Read one from its Data Set, in little endian.

        Raises
        ------
        InstanceRefused
            It cannot be read, or it has something that is not drawn.
        """
        try:
            elements = read(data_set, transfer_syntax_uid, _MOST_BYTES)
            references = tuple(_references(elements))
        except InvalidDataSet as error:
            raise InstanceRefused(f"its presentation state cannot be read: {error}") from error
        for tag, what in _NOT_DRAWN.items():
            if elements.get(tag, ("", b""))[1]:
                raise InstanceRefused(f"the presentation state has {what}, which this node does not draw")
        return cls(references, elements)

    def frames_of(self, sop_instance_uid: str) -> tuple[int, ...] | None:
        """Return the frames of an image that it is for: all of them as none; None when it is not for this image."""
        for reference in self.references:
            if reference.sop_instance_uid == sop_instance_uid:
                return reference.frames
        return None

    def applied(self, order: Mapping[str, Any], image: Elements, sop_instance_uid: str) -> dict[str, Any]:
        """Return how the image is to be rendered, as the worker wants to be told.

        The state alone says how grey values become what is displayed: nothing of the image counts for that, not even
        whether it is MONOCHROME1 (PS3.4 N.2.1).

        Parameters
        ----------
        order
            How the image is stored, from ``display_of``.
        image
            Its elements.

        Raises
        ------
        InstanceRefused
            It cannot be rendered so.
        """
        if order["samples"] != 1 or order.get("palette"):
            raise InstanceRefused("a Grayscale Softcopy Presentation State is for images in grey alone")
        names = ("window", "voi_lut", "modality_lut", "each", "overlays", "shutters")
        found = {name: value for name, value in order.items() if name not in names}
        frame = order["numbers"][0]
        found |= self._grey_scale(sop_instance_uid, frame, is_signed=order["signed"])
        found |= self._planes(order, image)
        return found | self._place(sop_instance_uid, frame)

    def _grey_scale(self, sop_instance_uid: str, frame: int, *, is_signed: bool) -> dict[str, Any]:
        voi = self._item_for(_SOFTCOPY_VOI_LUTS, sop_instance_uid, frame) or {}
        found = grey_scale_of({**self._elements, **voi}, is_signed=is_signed)
        found["is_full_range"] = True
        found["inverse"] = ElementNumbers(self._elements).text(_PRESENTATION_LUT_SHAPE) == "INVERSE"
        if table := lut_of(self._elements, _PRESENTATION_LUTS, is_signed=False):
            found["presentation_lut"] = table
        return found

    def _planes(self, order: Mapping[str, Any], image: Elements) -> dict[str, Any]:
        """Return its overlays, those of the image that it activates, and its shutters."""
        number = ElementNumbers(self._elements)
        bitmap = number.one(SHUTTER_OVERLAY) if "BITMAP" in number.texts(0x00181600) else 0
        groups = set(overlay_layers(self._elements)) - {bitmap}
        overlays = overlays_of(self._elements, order, groups)
        there = {tag >> 16 for tag in self._elements if tag & 0xFFFF == 0x3000}
        overlays += overlays_of(image, order, sorted(groups - there))
        if bitmap:
            overlays += overlays_of(self._elements, order, [bitmap], shutter_level(self._elements))
        found = {"overlays": overlays, "shutters": shutters_of(self._elements)}
        return {name: value for name, value in found.items() if value}

    def _place(self, sop_instance_uid: str, frame: int) -> dict[str, Any]:
        """Return what is seen of the image, and how it is turned (PS3.3 C.10.4, C.10.6)."""
        number = ElementNumbers(self._elements)
        rotation, remainder = divmod(number.one(_ROTATION), 90)
        found: dict[str, Any] = {
            "is_whole": True,
            "rotation": rotation % 4,
            "flips": (number.text(_FLIP) == "Y", False),
        }
        area = self._item_for(_AREAS, sop_instance_uid, frame)
        if area is None:
            raise InstanceRefused("its presentation state has no Displayed Area for it")
        number = ElementNumbers(area)
        corners = number.decimals(_TOP_LEFT), number.decimals(_BOTTOM_RIGHT)
        if remainder or any(len(corner) != 2 for corner in corners):
            raise InstanceRefused("its presentation state has a Displayed Area or rotation that cannot be read")
        (left, right), (top, bottom) = (sorted(map(int, pair)) for pair in zip(*corners, strict=True))
        width, height = right - left + 1, bottom - top + 1
        spacing, ratio = number.decimals(_SPACING), number.decimals(_ASPECT_RATIO)
        pair = spacing if len(spacing) == 2 else ratio if len(ratio) == 2 else [1.0, 1.0]
        magnification = number.decimal(_MAGNIFICATION, 1.0) if number.text(_SIZE_MODE) == "MAGNIFY" else 1.0
        if min(*pair, magnification) <= 0:
            raise InstanceRefused("its presentation state has a spacing or magnification that is no number above 0")
        tall, wide = pair[0] / min(pair) * height * magnification, pair[1] / min(pair) * width * magnification
        if max(width, height, tall, wide) > _MOST_PIXELS or min(tall, wide) < 1:
            raise InstanceRefused(f"its presentation state has a Displayed Area of {width} x {height} pixels")
        size = round(wide), round(tall)
        is_magnified = number.text(_SIZE_MODE) == "MAGNIFY"
        return found | {
            "region": (left - 1, top - 1, width, height),
            "area": size[::-1] if rotation % 2 else size,
            "is_magnified": is_magnified,
        }

    def _item_for(self, tag: int, sop_instance_uid: str, frame: int) -> Elements | None:
        """Return the item of a sequence that is for this frame; one that names no images is for all."""
        try:
            for item in items(self._elements.get(tag, ("SQ", b""))[1], _ALL):
                images = list(_images(item))
                if not images or any(
                    uid == sop_instance_uid and frame in (frames or (frame,)) for uid, frames in images
                ):
                    return item
        except InvalidDataSet as error:
            raise InstanceRefused(f"its presentation state cannot be read: {error}") from error
        return None


def _references(elements: Elements) -> Iterator[PresentedImage]:
    for series in items(elements.get(_SERIES, ("SQ", b""))[1], _ALL):
        uid = ElementNumbers(series).text(_SERIES_UID)
        for instance, frames in _images(series):
            yield PresentedImage(uid, instance, frames)


def _images(item: Elements) -> Iterator[tuple[str, tuple[int, ...]]]:
    for image in items(item.get(_IMAGES, ("SQ", b""))[1], (_INSTANCE_UID, _FRAMES)):
        number = ElementNumbers(image)
        yield number.text(_INSTANCE_UID), tuple(int(each) for each in number.decimals(_FRAMES))
