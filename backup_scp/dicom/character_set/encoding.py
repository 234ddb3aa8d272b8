"""Encode Unicode, and return the matching Specific Character Set.

Strict: it uses the requester's set if that has every character, else ISO_IR 192; ASCII needs no declaration.
"""

from __future__ import annotations

from collections.abc import Iterable

from backup_scp.dicom.character_set.coded_sets import (
    ASCII,
    DEFAULT,
    KATAKANA,
    ROMAJI,
    UTF_8,
    CharacterSet,
    CodedSet,
    parse,
)

_RESETS = frozenset("\\^=\t\n\f\r")


def encode(text: str, preferred: CharacterSet) -> tuple[bytes, str]:
    """Encode one value, delimiters included.

    Returns
    -------
    tuple of bytes and str
        The bytes, not padded, and their value of (0008,0005), which is empty for ASCII.
    """
    values, name = encode_all([text], preferred)
    return values[0], name


def encode_all(texts: Iterable[str], preferred: CharacterSet) -> tuple[list[bytes], str]:
    """Encode the values of one Data Set with one common Specific Character Set."""
    texts = list(texts)
    chosen = choose(texts, preferred)
    return [_encode(text, chosen) or b"" for text in texts], chosen.value


def choose(texts: Iterable[str], preferred: CharacterSet) -> CharacterSet:
    """Return the first that has all characters: the default repertoire, the preferred set, UTF-8."""
    foreign = [text for text in texts if not text.isascii()]
    if not foreign:
        return DEFAULT
    if preferred.value and all(_encode(text, preferred) is not None for text in foreign):
        return preferred
    return parse(UTF_8)


def _encode(text: str, character_set: CharacterSet) -> bytes | None:
    """Encode; return None when the set lacks a character."""
    if text.isascii():
        return text.encode("ascii")
    if character_set.value == UTF_8:
        return text.encode("utf_8", "replace")
    try:
        if character_set.whole:
            return text.encode(character_set.whole)
        if character_set.extensions:
            return _Writer(character_set).write(text)
        return b"".join(_encode_character(character, character_set.first) for character in text)
    except UnicodeEncodeError:
        return None


class _Writer:
    """Writes escape sequences where they are needed (PS3.5 6.1.2.5.3)."""

    def __init__(self, character_set: CharacterSet) -> None:
        self._home = ROMAJI if character_set.first is KATAKANA else ASCII
        self._first = character_set.first
        self._extensions = character_set.extensions
        self._g0, self._g1 = self._home, self._first
        self._out = bytearray()

    def write(self, text: str) -> bytes:
        """Encode one value; restore the initial state before each delimiter and at the end."""
        for character in text:
            if character.isascii():
                self._designate(self._home)
                if character in _RESETS:
                    self._reset_g1()
                self._out += character.encode("ascii")
            else:
                coded, data = self._find(character)
                self._designate(coded)
                self._out += data
        self._designate(self._home)
        self._reset_g1()
        return bytes(self._out)

    def _designate(self, coded: CodedSet) -> None:
        if coded is (self._g0 if coded.in_g0 else self._g1):
            return
        self._out += coded.escape
        if coded.in_g0:
            self._g0 = coded
        else:
            self._g1 = coded

    def _reset_g1(self) -> None:
        if self._first.in_g0:
            self._g1 = self._first  # nothing was designated at first, and no escape sequence restores that
        else:
            self._designate(self._first)

    def _find(self, character: str) -> tuple[CodedSet, bytes]:
        """Return the first coded set that has the character; sets in use come first."""
        for coded in (self._g0, self._g1, self._first, *self._extensions):
            try:
                return coded, _encode_character(character, coded)
            except UnicodeEncodeError:
                continue
        raise UnicodeEncodeError("iso2022", character, 0, 1, "in none of the declared sets")


def _encode_character(character: str, coded: CodedSet) -> bytes:
    if coded is KATAKANA:
        return bytes((ord(character) - 0xFEC0,)) if "\uff61" <= character <= "\uff9f" else character.encode("ascii")
    if not coded.double:
        return character.encode(coded.codec)
    data = character.encode("euc_jp" if coded.in_g0 else coded.codec)
    if len(data) != (3 if coded.codec == "jis_x_0212" else 2) or data[0] == 0x8E:
        raise UnicodeEncodeError(coded.codec, character, 0, 1, "not of two bytes")
    return bytes(byte & 0x7F for byte in data[-2:]) if coded.in_g0 else data
