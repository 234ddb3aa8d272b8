"""Decode bytes by their escape sequences (PS3.5 6.1.2.5), tolerantly: it never raises.

- Escape sequences are followed even when no code extension is declared.
- A missing escape sequence after a delimiter, and a missing return to ASCII before one, are tolerated when the bytes
  have no other meaning.
- Bytes above 7F without a declared set (none, ISO_IR 6, an unknown name), or with Latin-1: they are decoded as UTF-8 if
  valid, else as Latin-1, because Latin-1 text is hardly ever valid UTF-8 by chance.
- Bytes that are not UTF-8 under ISO_IR 192 are decoded as Latin-1, one by one, so that a search still finds them.
- Bytes that are invalid in any other declared set become U+FFFD.
"""

from __future__ import annotations

import codecs
import re

from backup_scp.dicom.character_set.coded_sets import ASCII, BY_ESCAPE, CharacterSet, CodedSet

_ESC = 0x1B
_ESCAPE = re.compile(b"(" + b"|".join(map(re.escape, BY_ESCAPE)) + b")")
_CONTROL = re.compile(rb"[\t\n\f\r]")
_VALUE = re.compile(rb"[\\\t\n\f\r]")
_PERSON_NAME = re.compile(rb"[\\^=\t\n\f\r]")
_DELIMITERS = {"PN": _PERSON_NAME, "ST": _CONTROL, "LT": _CONTROL, "UT": _CONTROL}
_OFTEN_WRONG = ("", "iso8859_1")  # declared sets of writers that often write another one
_RUNS = re.compile(rb"[\x21-\x7e]+|[^\x21-\x7e]+")


def decode(data: bytes, character_set: CharacterSet, vr: str = "LO") -> str:
    """Decode a whole value, delimiters included; never raises.

    Parameters
    ----------
    data
        As in the Data Set, all values with the backslashes between them.
    character_set
        From ``parse``.
    vr
        Its Value Representation: ``^`` and ``=`` end a code extension in PN only, a backslash in all VRs except ST,
        LT and UT (PS3.5 6.1.2.5.3).
    """
    if character_set.whole:
        return data.decode(character_set.whole, "backup_scp.latin_1" if character_set.whole == "utf_8" else "replace")
    if _ESC in data:
        return _decode_extended(data, character_set, _DELIMITERS.get(vr, _VALUE))
    return _decode_single(data, _right_half(character_set, character_set.first))


def _decode_extended(data: bytes, character_set: CharacterSet, delimiters: re.Pattern[bytes]) -> str:
    """Decode with escape sequences; a delimiter restores the initial state (PS3.5 6.1.2.5.3)."""
    g0, g1 = ASCII, character_set.first
    out = []
    for piece in _ESCAPE.split(data):
        if coded := BY_ESCAPE.get(piece):
            g0, g1 = (coded, g1) if coded.in_g0 else (g0, coded)
            continue
        reset = (_CONTROL if g0.double else delimiters).search(piece)
        end = reset.end() if reset else len(piece)
        out.append(_decode_run(piece[:end], g0, _right_half(character_set, g1)))
        if reset:
            g0, g1 = ASCII, g1 if character_set.first.in_g0 else character_set.first
            out.append(_decode_single(piece[end:], _right_half(character_set, g1)))
    return "".join(out)


def _right_half(character_set: CharacterSet, g1: CodedSet) -> str:
    """Return the codec of bytes above 7F; empty when none was declared."""
    return next((coded.codec for coded in (g1, *character_set.extensions) if not coded.in_g0), "")


def _decode_run(data: bytes, g0: CodedSet, right_half: str) -> str:
    """Decode bytes between two escape sequences; between pairs of G0 may be spaces, controls and bytes of G1."""
    if not g0.double:
        return _decode_single(data, right_half)
    runs: list[bytes] = _RUNS.findall(data)
    return "".join(
        _decode_pairs(run, g0) if 0x21 <= run[0] <= 0x7E else _decode_single(run, right_half) for run in runs
    )


def _decode_pairs(run: bytes, g0: CodedSet) -> str:
    """Decode JIS X 0208 or 0212; an odd last byte is a delimiter, before which the return to ASCII is missing."""
    end = len(run) & ~1
    shift = b"\x8f" if g0.codec == "jis_x_0212" else b""
    high = bytes(byte | 0x80 for byte in run[:end])
    return "".join(_decode_pair(shift + high[i : i + 2]) for i in range(0, end, 2)) + run[end:].decode("ascii")


def _decode_pair(pair: bytes) -> str:
    try:
        return pair.decode("euc_jp").replace("~", "\uff5e")  # Python decodes 2237 of JIS X 0212 to an ASCII tilde
    except UnicodeDecodeError:
        return "\ufffd"


def _decode_single(data: bytes, right_half: str) -> str:
    """Decode with ASCII in G0."""
    if data.isascii():
        return data.decode("ascii")
    if right_half in _OFTEN_WRONG:
        return _guess(data)
    if right_half == "katakana":
        return "".join(map(_katakana, data))
    return data.decode(right_half, "replace")


def _katakana(byte: int) -> str:
    """Decode a byte of JIS X 0201: half-width katakana are U+FF61 to U+FF9F."""
    if byte < 0x80:
        return chr(byte)
    return chr(byte + 0xFEC0) if 0xA1 <= byte <= 0xDF else "\ufffd"


def _guess(data: bytes) -> str:
    try:
        return data.decode("utf_8")
    except UnicodeDecodeError:
        return data.decode("latin_1")


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin_1"), error.end


codecs.register_error("backup_scp.latin_1", _as_latin_1)
