"""Write a page for the wall as PDF: one sheet, in the largest letters with which it fits."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table

from backup_scp.receipts.page import Line, Page
from backup_scp.receipts.pdf_fonts import Fonts
from backup_scp.receipts.receipt import printable

PAPERS = {"a4": A4, "letter": LETTER}

_MARGIN = 12 * mm
_LARGEST, _SMALLEST, _STEP = 11.0, 5.0, 0.5  # points; smaller ones nobody reads: then there is a second sheet
_TITLE, _HEADING, _LEADING = 1.6, 1.15, 1.2  # in font sizes
_NUMBER_WIDTH, _WORD_WIDTH = 1.8, 4.5  # the same, of a mark
_FRAME = 6  # points that reportlab leaves free on each side
_TYPED = "Courier-Bold"
_CELL = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEADING", (0, 0), (-1, -1), 1),  # of the empty cell, which is not to make the others higher
    *((f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")),
]


def write_page(page: Page, stream: BinaryIO, paper: str) -> None:
    """Write a page as PDF.

    Parameters
    ----------
    paper
        One of ``PAPERS``.
    """
    fonts, size = Fonts(), _LARGEST
    while (made := _made(page, fonts, paper, size))[1] > 1 and size > _SMALLEST:
        size -= _STEP
    stream.write(made[0])


def _made(page: Page, fonts: Fonts, paper: str, size: float) -> tuple[bytes, int]:
    """Return the PDF, and how many sheets it has."""
    into = io.BytesIO()
    margins = dict.fromkeys(("leftMargin", "rightMargin", "topMargin", "bottomMargin"), _MARGIN)
    document = SimpleDocTemplate(into, pagesize=PAPERS[paper], title=page.title, creator="backup-scp", **margins)
    document.build(list(_SheetContent(fonts, size, document.width - 2 * _FRAME).of(page)))
    return into.getvalue(), document.page


class _SheetContent:
    def __init__(self, fonts: Fonts, size: float, width: float) -> None:
        self._fonts = fonts
        self._width = width
        self._number_width, self._word_width = _NUMBER_WIDTH * size, _WORD_WIDTH * size
        leading = _LEADING * size
        self._title = ParagraphStyle(
            "title", fontName=fonts.base, fontSize=_TITLE * size, leading=_TITLE * leading, spaceAfter=size / 2
        )
        self._heading = ParagraphStyle(
            "heading",
            fontName=fonts.base,
            fontSize=_HEADING * size,
            leading=_HEADING * leading,
            spaceBefore=size / 2,
            spaceAfter=size / 4,
            backColor=colors.lightgrey,
        )
        self._text = ParagraphStyle("text", fontName=fonts.base, fontSize=size, leading=leading)
        self._typed = ParagraphStyle("typed", parent=self._text, fontName=_TYPED)

    def of(self, page: Page) -> Iterator[Any]:
        yield self._paragraph(page.title, self._title)
        yield from self._lines(page.lines)
        for section in page.sections:
            yield self._paragraph(section.heading, self._heading)
            yield from self._lines(section.lines)

    def _lines(self, lines: Iterable[Line]) -> Iterator[Any]:
        for line in lines:
            style = self._typed if line.is_typed and line.text.isascii() else self._text
            text = Paragraph(printable(line.text), style) if style is self._typed else self._paragraph(line.text, style)
            if not line.mark:
                yield text
                continue
            mark = self._paragraph(line.mark, self._text)
            is_word = line.mark.endswith(":")  # it stands below the text of a number
            widths = [self._number_width, self._word_width] if is_word else [self._number_width]
            cells = ["", mark, text] if is_word else [mark, text]
            yield Table([cells], colWidths=[*widths, self._width - sum(widths)], style=_CELL)

    def _paragraph(self, text: str, style: ParagraphStyle) -> Paragraph:
        return Paragraph(self._fonts.markup(printable(text)), style)
