"""Choose fonts for the text of a PDF: for each character one that has it (docs/adr/0042).

Fonts of this computer come first, and are embedded.  For Han, kana and hangul without such a font, the PDF names a font
that viewers replace by one of their own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

_FOLDERS = (
    "/usr/share/fonts/truetype/dejavu",
    "/usr/share/fonts/truetype/liberation",
    "/usr/share/fonts/truetype/noto",
    "/usr/share/fonts/truetype/droid",
    "/usr/share/fonts/truetype/nanum",
    "/usr/share/fonts/truetype/wqy",
    "/usr/share/fonts/dejavu-sans-fonts",
    "/usr/share/fonts/TTF",
    "/System/Library/Fonts/Supplemental",
    "C:/Windows/Fonts",
)
_FILES = (  # reportlab embeds TrueType outlines only, which fonts in .otf files do not have
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "DroidSansFallbackFull.ttf",
    "NanumGothic.ttf",
    "wqy-microhei.ttc",
    "msgothic.ttc",
    "malgun.ttf",
    "msyh.ttc",
)
_OWN = "Vera.ttf"  # reportlab brings it: Latin letters
_OF_THE_VIEWER = {"HeiseiKakuGo-W5": "euc_jp", "STSong-Light": "gbk", "HYGothic-Medium": "cp949"}
_UNKNOWN = "?"
_RIGHT_TO_LEFT = re.compile(
    r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+(?:\W*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+)*"
)


class Fonts:
    """Finds a font for each character; loads a font when a character needs it.

    Attributes
    ----------
    base
        The name of the first one.
    lacks
        Whether a character has no font in the file: a viewer may show it nevertheless, or leave it blank.
    """

    def __init__(self) -> None:
        self._candidates = _found()
        self._loaded: list[TTFont] = []
        self._of: dict[str, str] = {}  # the font of a character
        self.lacks = False
        self.base = self._font_of("A")

    def markup(self, text: str) -> str:
        """Return a text for a paragraph, each part in its font."""
        visible = _RIGHT_TO_LEFT.sub(lambda found: found[0][::-1], text)  # reportlab sets from left to right
        parts = itertools.groupby(visible, self._font_of)
        return "".join(self._part(font, "".join(each)) for font, each in parts)

    def _part(self, font: str, text: str) -> str:
        self.lacks = self.lacks or font in _OF_THE_VIEWER or not font
        if not font:
            return _UNKNOWN * len(text)
        return escape(text) if font == self.base else f'<font name="{font}">{escape(text)}</font>'

    def _font_of(self, character: str) -> str:
        if (known := self._of.get(character)) is None:
            known = self._of[character] = self._embedded(character) or _of_the_viewer(character)
        return known

    def _embedded(self, character: str) -> str:
        for font in itertools.chain(self._loaded, self._load()):
            if ord(character) in font.face.charToGlyph:
                return str(font.fontName)
        return ""

    def _load(self) -> Iterator[TTFont]:
        for path in self._candidates:
            try:
                font = TTFont(Path(path).stem.replace(" ", ""), path)
            except Exception:  # noqa: BLE001, S112 - a damaged file raises anything; the next one may do
                continue
            pdfmetrics.registerFont(font)
            self._loaded.append(font)
            yield font


def _found() -> Iterator[str]:
    for file in _FILES:
        yield from (path for folder in _FOLDERS if Path(path := f"{folder}/{file}").is_file())
    yield _OWN


def _of_the_viewer(character: str) -> str:
    for font, charset in _OF_THE_VIEWER.items():
        try:
            character.encode(charset)
        except UnicodeEncodeError:
            continue
        pdfmetrics.registerFont(UnicodeCIDFont(font))
        return font
    return ""
