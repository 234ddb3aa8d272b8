"""Read single numbers and words of elements, whatever their Value Representation says."""

from __future__ import annotations

from collections.abc import Mapping

from backup_scp.dicom import character_set
from backup_scp.dicom.value_representation import to_text

_BINARY = frozenset((0x00280002, 0x00280006, 0x00280010, 0x00280011, *range(0x00280100, 0x00280104))) | {
    *(0x00280120, 0x00280121, 0x00286010)
}


class ElementNumbers:
    """Reads values of elements; nothing for one that is none."""

    def __init__(self, elements: Mapping[int, tuple[str, bytes]]) -> None:
        self._elements = elements

    def texts(self, tag: int) -> list[str]:
        """Return the values of an element; none for one that is not there."""
        vr, value = self._elements.get(tag, ("CS", b""))
        text = to_text(vr, vr, value, character_set.DEFAULT)
        return text.split("\\") if text else []

    def text(self, tag: int) -> str:
        """Return the first value."""
        return next(iter(self.texts(tag)), "")

    def one(self, tag: int, otherwise: int = 0) -> int:
        """Return a whole number."""
        _, value = self._elements.get(tag, ("US", b""))
        if len(value) in {2, 4} and tag in _BINARY:
            return int.from_bytes(value[:2], "little")
        return int(self.decimal(tag, otherwise))

    def decimal(self, tag: int, otherwise: float) -> float:
        """Return a number."""
        return _number(self.text(tag), otherwise)

    def decimals(self, tag: int) -> list[float]:
        """Return all numbers; none when one of them is no number."""
        found = [_number(text, _NONE) for text in self.texts(tag)]
        return [] if _NONE in found else found


_NONE = 1e30


def _number(text: str, otherwise: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return otherwise
    return number if abs(number) < 1e15 else otherwise
