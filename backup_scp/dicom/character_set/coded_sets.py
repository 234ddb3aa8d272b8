"""The coded character sets of PS3.3 Tables C.12-2 to C.12-5, and a parser for the value of (0008,0005)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple


class CodedSet(NamedTuple):
    """One coded character set that ISO 2022 can designate.

    Attributes
    ----------
    escape
        The escape sequence that designates it.
    codec
        Python's name for it, or ``katakana`` or ``jis_x_0212``, which Python has only as parts of other codecs.
    in_g0
        True when it uses the bytes 21 to 7E (G0), False when it uses those above 7F (G1).
    double
        True when its characters have two bytes.
    """

    escape: bytes
    codec: str
    in_g0: bool = False
    double: bool = False


ASCII = CodedSet(b"\x1b(B", "ascii", in_g0=True)
ROMAJI = CodedSet(b"\x1b(J", "ascii", in_g0=True)  # ISO-IR 14; 5C, its yen sign, is also the delimiter of values
KATAKANA = CodedSet(b"\x1b)I", "katakana")
JIS_X_0208 = CodedSet(b"\x1b$B", "euc_jp", in_g0=True, double=True)
JIS_X_0212 = CodedSet(b"\x1b$(D", "jis_x_0212", in_g0=True, double=True)

BY_NUMBER = {
    6: ASCII,
    13: KATAKANA,
    58: CodedSet(b"\x1b$)A", "gb2312", double=True),
    87: JIS_X_0208,
    100: CodedSet(b"\x1b-A", "iso8859_1"),
    101: CodedSet(b"\x1b-B", "iso8859_2"),
    109: CodedSet(b"\x1b-C", "iso8859_3"),
    110: CodedSet(b"\x1b-D", "iso8859_4"),
    126: CodedSet(b"\x1b-F", "iso8859_7"),
    127: CodedSet(b"\x1b-G", "iso8859_6"),
    138: CodedSet(b"\x1b-H", "iso8859_8"),
    144: CodedSet(b"\x1b-L", "iso8859_5"),
    148: CodedSet(b"\x1b-M", "iso8859_9"),
    149: CodedSet(b"\x1b$)C", "euc_kr", double=True),
    159: JIS_X_0212,
    166: CodedSet(b"\x1b-T", "tis_620"),
    203: CodedSet(b"\x1b-b", "iso8859_15"),
}
"""Coded sets by ISO registration number."""

BY_ESCAPE = {coded.escape: coded for coded in BY_NUMBER.values()} | {
    ROMAJI.escape: ROMAJI,
    b"\x1b$@": JIS_X_0208,  # the edition of 1978
    b"\x1b$(B": JIS_X_0208,
}

UTF_8 = "ISO_IR 192"
WHOLE = {UTF_8: "utf_8", "GB18030": "gb18030", "GBK": "gbk"}
"""Sets without code extension, with Python's names for them."""

_ALIASES = {"UTF8": UTF_8, "ISO2022GBK": "GBK", "GB2312": "GBK", "ISO202258": "ISO 2022 IR 58"}
_ISO_8859_PARTS = {1: 100, 2: 101, 3: 109, 4: 110, 5: 144, 6: 127, 7: 126, 8: 138, 9: 148, 11: 166, 15: 203}
_NUMBERED = re.compile(r"ISO(2022)?IR(\d{1,3})")
_ISO_8859 = re.compile(r"(?:ISO)?8859(\d{1,2})|LATIN([1-4])")


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """The parsed value of (0008,0005).

    Attributes
    ----------
    value
        Its Defined Terms in the standard's spelling; empty for the default repertoire and for unknown names.
    whole
        Codec of a set without code extension (UTF-8, GB18030, GBK), else empty.
    first
        The set that value 1 designates before any escape sequence.
    extensions
        The sets that escape sequences may designate, in the declared order; empty without code extension.
    """

    value: str = ""
    whole: str = ""
    first: CodedSet = ASCII
    extensions: tuple[CodedSet, ...] = ()


DEFAULT = CharacterSet()


def parse(value: bytes | str) -> CharacterSet:
    """Parse a value of (0008,0005); never raises.

    Names are read by their registration number: ``ISO-IR 100``, ``iso ir 100`` and ``ISO_IR_100`` are ISO_IR 100.

    Parameters
    ----------
    value
        As in the Data Set; several values are separated by backslashes.
    """
    text = value.decode("latin_1") if isinstance(value, bytes) else value
    return _parse(text[:256])


@lru_cache(maxsize=128)
def _parse(text: str) -> CharacterSet:
    terms = [_term(name.partition("\0")[0]) for name in text.split("\\")]
    if terms[0] in WHOLE:
        return CharacterSet(terms[0], WHOLE[terms[0]])
    numbers = [_number(term) for term in terms]
    extended = len(numbers) > 1 or terms[0].startswith("ISO 2022")
    if numbers[0] and BY_NUMBER[numbers[0]].double:  # multi-byte sets are allowed only in values 2 to n
        numbers, extended = [0, *numbers], True
    return CharacterSet(
        _defined_terms(numbers, "ISO 2022 IR" if extended else "ISO_IR"),
        first=BY_NUMBER[numbers[0] or 6],
        extensions=tuple(BY_NUMBER[number] for number in numbers if number) if extended else (),
    )


def _term(name: str) -> str:
    """Return a name as a Defined Term; empty when it is unknown."""
    bare = re.sub(r"[^A-Z0-9]", "", name.upper())
    if bare in _ALIASES:
        return _ALIASES[bare]
    if numbered := _NUMBERED.fullmatch(bare):
        number = int(numbered[2])
        return UTF_8 if number == 192 else f"{'ISO 2022 IR' if numbered[1] else 'ISO_IR'} {number}"
    if part := _ISO_8859.fullmatch(bare):
        number = _ISO_8859_PARTS.get(int(part[1] or part[2]), 0)
        return f"ISO_IR {number}" if number else ""
    return bare if bare in WHOLE else ""


def _number(term: str) -> int:
    """Return the registration number of a set for code extension, else 0."""
    number = int(term.rsplit(" ", 1)[1]) if term.startswith("ISO") else 0
    return number if number in BY_NUMBER else 0


def _defined_terms(numbers: list[int], prefix: str) -> str:
    kept = [numbers[0], *(number for number in numbers[1:] if number)]
    return "\\".join(f"{prefix} {number}" if number else "" for number in kept)
