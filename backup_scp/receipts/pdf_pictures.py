"""Write a document with pictures as PDF, A4: a picture on each page, and a first page that shows them small."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from reportlab import rl_config
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

from backup_scp.ports import PictureDocument
from backup_scp.receipts.pdf_fonts import Fonts
from backup_scp.receipts.receipt import printable

MOST_WITHOUT_COVER = 4
"""Documents with more pictures have a first page."""

_MARGIN = 15 * mm
_WIDTH, _HEIGHT = A4[0] - 2 * _MARGIN, A4[1] - 2 * _MARGIN
_FACT_WIDTH = 45 * mm
_GAP = 3 * mm
_ACROSS, _MOST_SMALL = 4, 20
_SMALL = (_WIDTH - (_ACROSS - 1) * _GAP) / _ACROSS


def write_pictures(document: PictureDocument) -> bytes:
    """Return the PDF."""
    rl_config.useA85 = 0  # pictures in ASCII are longer by a quarter
    into = io.BytesIO()
    canvas = Canvas(into, pagesize=A4, pageCompression=1)
    canvas.setTitle(document.title)
    canvas.setCreator("backup-scp")
    _PictureWriter(document, canvas).write()
    canvas.save()
    return into.getvalue()


class _PictureWriter:
    """Draws pages from top to bottom; ``_y`` is where the next line goes."""

    def __init__(self, document: PictureDocument, canvas: Any) -> None:
        self._document, self._canvas, self._fonts = document, canvas, Fonts()
        base = self._fonts.base
        self._title = ParagraphStyle("title", fontName=base, fontSize=18, leading=24)
        self._text = ParagraphStyle("text", fontName=base, fontSize=10, leading=14)
        self._label = ParagraphStyle("label", fontName=base, fontSize=8, leading=14)
        self._quiet = ParagraphStyle("quiet", fontName=base, fontSize=8, leading=10)
        self._right = ParagraphStyle("right", parent=self._quiet, alignment=TA_RIGHT)
        self._y = 0.0
        self._has_cover = len(document.pages) > MOST_WITHOUT_COVER
        self._pages = len(document.pages) + self._has_cover
        self._page = 0

    def write(self) -> None:
        pictures = [ImageReader(io.BytesIO(page.picture)) for page in self._document.pages]
        if self._has_cover:
            self._begin()
            self._cover(pictures)
        for position, (page, picture) in enumerate(zip(self._document.pages, pictures, strict=True)):
            self._begin()
            if position or self._has_cover:
                self._line(page.head, self._text)
            else:
                self._facts()
            self._line(page.caption, self._quiet)
            self._picture(picture, _MARGIN, _MARGIN, _WIDTH, self._y - _GAP - _MARGIN)
        self._canvas.showPage()

    def _begin(self) -> None:
        """Begin a page, with its foot."""
        if self._page:
            self._canvas.showPage()
        self._page += 1
        self._y = A4[1] - _MARGIN
        number = self._paragraph(self._document.number(self._page, self._pages), self._right)
        foot = self._paragraph(self._document.foot, self._quiet)
        foot.wrapOn(self._canvas, _WIDTH - 30 * mm, _MARGIN)
        foot.drawOn(self._canvas, _MARGIN, 8 * mm)
        number.wrapOn(self._canvas, 28 * mm, _MARGIN)
        number.drawOn(self._canvas, A4[0] - _MARGIN - 28 * mm, 8 * mm)

    def _facts(self) -> None:
        self._line(self._document.title, self._title)
        for name, value in self._document.facts:
            top = self._y
            self._line(name, self._label)
            after, self._y = self._y, top
            self._line(value, self._text, _FACT_WIDTH)
            self._y = min(self._y, after)
        for remark in self._document.remarks:
            self._line(remark, self._quiet)
        if self._fonts.lacks:
            self._line(self._document.without_font, self._quiet)

    def _cover(self, pictures: Sequence[Any]) -> None:
        self._facts()
        every = -(-len(pictures) // _MOST_SMALL)
        for position, picture in enumerate(pictures[::every]):
            row, column = divmod(position, _ACROSS)
            bottom = self._y - _GAP - (row + 1) * (_SMALL + _GAP)
            if bottom < _MARGIN:
                break
            self._picture(picture, _MARGIN + column * (_SMALL + _GAP), bottom, _SMALL, _SMALL)

    def _line(self, text: str, style: ParagraphStyle, indent: float = 0.0) -> None:
        paragraph = self._paragraph(text, style)
        _, height = paragraph.wrapOn(self._canvas, _WIDTH - indent, _HEIGHT)
        self._y -= height
        paragraph.drawOn(self._canvas, _MARGIN + indent, self._y)

    def _paragraph(self, text: str, style: ParagraphStyle) -> Paragraph:
        return Paragraph(self._fonts.markup(printable(text)), style)

    def _picture(self, picture: Any, x: float, y: float, width: float, height: float) -> None:
        self._canvas.drawImage(picture, x, y, width, height, preserveAspectRatio=True, anchor="n")
