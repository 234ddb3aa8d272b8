"""A document with pictures, before it is a PDF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class PicturePage(NamedTuple):
    """A page with one picture.

    Attributes
    ----------
    picture
        JPEG.
    head
        Whose picture it is, and of which study.
    caption
        Which picture of the study it is.
    """

    picture: bytes
    head: str
    caption: str


@dataclass(frozen=True)
class PictureDocument:
    """A document.

    Attributes
    ----------
    title
        It says nothing of the patient: programs show it at windows and lists.
    facts
        What and whose it is: names and values.
    remarks
        What is left out.
    foot
        Below each page.
    without_font
        Told when characters have no font here: a viewer may leave them blank.
    number
        Writes a page's number, of how many.
    pages
        The pictures, in order.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    remarks: Sequence[str]
    foot: str
    without_font: str
    number: Callable[[int, int], str]
    pages: Sequence[PicturePage]


WriteDocument = Callable[[PictureDocument], bytes]
"""Returns a document as PDF."""
