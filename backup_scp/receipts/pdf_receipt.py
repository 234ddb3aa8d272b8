"""Write a receipt as PDF, A4."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, BinaryIO

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import LongTable, Paragraph, SimpleDocTemplate, Spacer, Table

from backup_scp.receipts.pdf_fonts import Fonts
from backup_scp.receipts.receipt import Receipt, Row, printable
from backup_scp.receipts.text_receipt import SIGNATURE

MOST_ROWS = 2000
"""Rows of the table: about 60 pages.  Text and JSON have all."""

_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_FACT_WIDTH = 42 * mm
_ROOM = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    *((f"{side}PADDING", (0, 0), (-1, -1), 2) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")),
]
_LINED = [("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey), ("LINEBELOW", (0, 0), (-1, 0), 0.75, colors.black)]


def write_pdf(receipt: Receipt, stream: BinaryIO) -> None:
    """Write a receipt as PDF."""
    page = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=receipt.title,
        creator="backup-scp",
    )
    content = _Content(Fonts())

    def number(canvas: Any, _: Any) -> None:
        canvas.setFont(content.base, 7)
        canvas.drawRightString(A4[0] - _MARGIN, 10 * mm, f"{receipt.title}, page {canvas.getPageNumber()}")

    page.build(list(content.of(receipt)), onFirstPage=number, onLaterPages=number)


class _Content:
    def __init__(self, fonts: Fonts) -> None:
        self._fonts = fonts
        self.base = fonts.base
        self._title = ParagraphStyle("title", fontName=self.base, fontSize=16, leading=20, spaceAfter=8)
        self._text = ParagraphStyle("text", fontName=self.base, fontSize=9, leading=12, spaceAfter=4)
        self._cell = ParagraphStyle("cell", fontName=self.base, fontSize=7.5, leading=9.5)

    def of(self, receipt: Receipt) -> Iterator[Any]:
        yield self._paragraph(receipt.title, self._title)
        yield self._paragraph(receipt.result, self._text)
        yield Spacer(0, 3 * mm)
        facts = [[self._cells(name), self._cells(value)] for name, value in receipt.facts.items()]
        yield Table(facts, colWidths=[_FACT_WIDTH, _WIDTH - _FACT_WIDTH], style=_ROOM)
        yield Spacer(0, 3 * mm)
        for problem in receipt.problems:
            yield self._paragraph(f"\u2022 {problem}", self._text)
        yield Spacer(0, 3 * mm)
        yield from self._table(receipt)
        if self._fonts.lacks:
            yield self._paragraph(
                "The computer that wrote this file has no font for some of its characters: they may be blank or a "
                "question mark. A receipt in text or JSON has all of them.",
                self._text,
            )
        yield Spacer(0, 18 * mm)
        yield Table(
            [[self._cells(what) for what in SIGNATURE]],
            colWidths=_WIDTH / len(SIGNATURE),
            style=[*_ROOM, ("LINEABOVE", (0, 0), (-1, 0), 0.75, colors.black)],
        )

    def _table(self, receipt: Receipt) -> Iterator[Any]:
        rows, columns = receipt.shown_rows(), receipt.shown
        shown = [self._row(row) for row in itertools.islice(rows, MOST_ROWS)]
        heading = self._row(tuple(column.heading for column in columns))
        share = _WIDTH / sum(column.width for column in columns)
        widths = [share * column.width for column in columns]
        yield LongTable([heading, *shown], colWidths=widths, repeatRows=1, style=[*_ROOM, *_LINED])
        if further := sum(1 for _ in rows):
            sentence = f"And {further:,} further rows: a receipt in text or JSON has all of them."
            yield self._paragraph(sentence, self._text)

    def _row(self, row: Row) -> list[Paragraph]:
        return [self._cells(value) for value in row]

    def _cells(self, value: str | int) -> Paragraph:
        return self._paragraph(value, self._cell)

    def _paragraph(self, value: str | int, style: ParagraphStyle) -> Paragraph:
        return Paragraph(self._fonts.markup(printable(value)), style)
