"""Read recovery keys as people type them from paper, and say where they are mistyped, without repeating them.

A key of age is Bech32: its last six letters check the others, so that a typing error is told from a wrong key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from backup_scp.errors import InvalidSettings

PREFIX = "AGE-SECRET-KEY-1"
GROUP = 6
"""How many letters a group has on the sheet that is printed."""

_LETTERS = 58
_ALPHABET = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
_ALIKE = str.maketrans("O1IB", "0LL8")  # O, 1, I and B are in no key
_START = re.compile(r"[\W_]*".join("AGESECRETKEY") + r"[\W_]*[1IL|]", re.IGNORECASE)
_PUBLIC = re.compile(r"\bage1[a-z0-9]{20}", re.IGNORECASE)
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)  # of BIP 173
_HUMAN_READABLE = "age-secret-key-"
_TRAILING_WORDS = 6  # more letters than that after a key are no typing error


def typed_keys(text: str) -> list[str]:
    """Return the keys in a text, as age writes them.

    The text may be a key file of age, our printed sheet, or a key with blanks, line breaks and small letters.

    Raises
    ------
    InvalidSettings
        There is no key, or one is mistyped; the text says where.
    """
    text = "\n".join(line.partition("#")[0] for line in text.splitlines())
    starts = list(_START.finditer(text))
    if not starts and _is_right(letters := _plain(text)):
        return [PREFIX + letters]
    if not starts and _PUBLIC.search(text):
        raise InvalidSettings(f"This is a public key, which seals: the recovery key, which opens, begins with {PREFIX}")
    if not starts:
        raise InvalidSettings(f"There is no recovery key: it begins with {PREFIX}")
    ends = [*(start.start() for start in starts[1:]), len(text)]
    named = [f"Recovery key {number}" if starts[1:] else "The recovery key" for number in range(1, len(starts) + 1)]
    return [_key(name, text[start.end() : end]) for name, start, end in zip(named, starts, ends, strict=True)]


def file_of(given: str) -> Path | None:
    """Return the file that a person has named instead of a key; None when the text is meant as a key."""
    looks_like_key = _START.search(given) or _PUBLIC.search(given) or len(_plain(given)) >= _LETTERS - _TRAILING_WORDS
    path = Path(given.strip()).expanduser()
    if "\n" in given.strip() or (looks_like_key and not _exists(path)):
        return None
    return path


def read_typed(stream: TextIO) -> str:
    """Return the lines of a key that is typed, which may take several: up to its last letter, or an empty line."""
    text = ""
    while line := stream.readline():
        text += line
        start = _START.search(text)
        if not line.strip() or len(_plain(text[start.end() :] if start else text)) >= _LETTERS:
            break
    return text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _key(name: str, rest: str) -> str:
    """Return a key whose letters follow its beginning."""
    letters, paragraph = _plain(rest), _plain(re.split(r"\n\s*\n", rest.strip(), maxsplit=1)[0])
    if len(paragraph) >= _LETTERS or len(letters) > _LETTERS + _TRAILING_WORDS:
        letters = paragraph  # words follow
    if len(letters) != _LETTERS:
        few = len(letters) < _LETTERS
        difference = f"{abs(len(letters) - _LETTERS)} too {'few' if few else 'many'}"
        raise InvalidSettings(
            f"{name} is mistyped: {_LETTERS} letters and digits follow {PREFIX}, and here are {len(letters)}, "
            f"{difference}. Compare the groups with the paper"
        )
    if foreign := [at for at, letter in enumerate(letters) if letter not in _ALPHABET]:
        raise InvalidSettings(f"{name} is mistyped: {_place(foreign[0])} is in no key")
    if not _is_right(letters):
        suspects = list(_suspects(letters))
        where = f": look at {suspects[0]}" if len(suspects) == 1 else ": compare each group with the paper"
        raise InvalidSettings(f"{name} is mistyped{where}. Its last six letters check the others, and do not fit")
    return PREFIX + letters


def _plain(text: str) -> str:
    """Return letters and digits, in capitals; letters that look like others as those."""
    return re.sub(r"[\W_]", "", text).upper().translate(_ALIKE)


def _place(at: int) -> str:
    return f"letter {at % GROUP + 1} of group {at // GROUP + 1} after {PREFIX}"


def _suspects(letters: str) -> Iterator[str]:
    """Yield where one other letter, or an exchange of two neighbours, makes the key right."""
    for at, letter in enumerate(letters):
        before, after = letters[:at], letters[at + 1 :]
        if any(_is_right(before + other + after) for other in _ALPHABET if other != letter):
            yield _place(at)
        if after and letter != after[0] and _is_right(before + after[0] + letter + after[1:]):
            yield f"letters {at % GROUP + 1} and {(at + 1) % GROUP + 1} of group {at // GROUP + 1} after {PREFIX}"


def _is_right(letters: str) -> bool:
    """Whether the checksum of Bech32 (BIP 173) fits."""
    if len(letters) != _LETTERS or not set(letters) <= set(_ALPHABET):
        return False
    name = [ord(letter) for letter in _HUMAN_READABLE]
    values = [*(each >> 5 for each in name), 0, *(each & 31 for each in name), *map(_ALPHABET.index, letters)]
    found = 1
    for value in values:
        top = found >> 25
        found = (found & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            found ^= generator if top >> bit & 1 else 0
    return found == 1
