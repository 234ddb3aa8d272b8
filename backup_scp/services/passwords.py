"""Passwords: Argon2id with the second parameters of RFC 9106 4, and which ones are too easy to guess."""

from __future__ import annotations

import re
import secrets
import threading
import unicodedata
from functools import cache, lru_cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from backup_scp.errors import InvalidSelection

LEAST = 12  # characters
_MOST = 512
_LEAST_DIFFERENT = 5
_SHORT_NAME = 3
_AT_ONCE = 1  # it takes 64 MiB and four threads: two at once would take more memory, and not less time
_PINS_AT_ONCE = 2
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
_turns = threading.BoundedSemaphore(_AT_ONCE)
_PIN_HASHER = PasswordHasher(time_cost=1, memory_cost=19 * 1024, parallelism=1)  # with a secret of 256 bits: enough
_pin_turns = threading.BoundedSemaphore(_PINS_AT_ONCE)  # who guesses PINs delays no login
_COMMON = Path(__file__).parent / "common_passwords.txt"
_KEYS = ("qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "abcdefghijklmnopqrstuvwxyz", "01234567890")
_ROWS = tuple(row[::step] for row in _KEYS for step in (1, -1))
_BLANK = re.compile(r"[\W_]")
_NO_LETTER = re.compile(r"[\W\d_]")
_SIGNS_AS_LETTERS = str.maketrans("0134578@$!", "oieastbasi")


def hashed(password: str) -> str:
    """Return the hash to store; takes a tenth of a second and 64 MiB."""
    with _turns:
        return _HASHER.hash(_normal(password))


def is_right(stored: str, password: str) -> bool:
    """Compare a password with its hash; without a hash it takes the same work, and is False."""
    with _turns:
        try:
            _HASHER.verify(stored or _of_nobody(), _normal(password))
            return bool(stored)
        except (VerificationError, InvalidHashError):
            return False


def hashed_pin(pin: str, token: str) -> str:
    """Return the hash of a PIN together with the secret token that it belongs to: without that nobody can try PINs."""
    with _pin_turns:
        return _PIN_HASHER.hash(f"{pin} {token}")


def is_right_pin(stored: str, pin: str, token: str) -> bool:
    """Compare a PIN with its hash."""
    with _pin_turns:
        try:
            return _PIN_HASHER.verify(stored, f"{pin} {token}")
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(stored: str) -> bool:
    """Tell whether a hash was made with other parameters than those of this version."""
    return _HASHER.check_needs_rehash(stored)


def require_good(password: str, name: str) -> None:
    """Raise for a password that is easy to guess.

    Raises
    ------
    InvalidSelection
    """
    given = _normal(password)
    plain = given.casefold()
    if len(given) < LEAST:
        raise InvalidSelection(f"A password has at least {LEAST} characters: three or four words are easy to remember")
    if len(given) > _MOST:
        raise InvalidSelection(f"A password has at most {_MOST} characters")
    if len(set(plain)) < _LEAST_DIFFERENT:
        raise InvalidSelection("This password repeats a few characters: choose another one")
    known = unicodedata.normalize("NFKC", name).casefold()
    if any(_is_within(part, plain) for part in (known, *re.split(r"[\W_]+", known))):
        raise InvalidSelection("This password has the user's name in it: choose another one")
    if _is_common(plain):
        raise InvalidSelection("This password is among the first that are tried: choose another one")


def _is_within(name: str, plain: str) -> bool:
    """Tell whether a name is in a password; a short one counts as a word of its own only."""
    return name in plain if len(name) > _SHORT_NAME else len(name) > 1 and name in re.split(r"[\W\d_]+", plain)


def _is_common(plain: str) -> bool:
    """Tell whether it is a listed word, or several, or a row of keys, with digits and signs; or has no letter."""
    letters = _NO_LETTER.sub("", plain)
    if not letters or any(text in row * 3 for text in (letters, _BLANK.sub("", plain)) for row in _ROWS):
        return True
    core = re.sub(r"^[\d\W_]+|[\d\W_]+$", "", plain).translate(_SIGNS_AS_LETTERS)
    return any(_common_words().fullmatch(text) for text in (letters, _NO_LETTER.sub("", core)))


@lru_cache(1)
def _common_words() -> re.Pattern[str]:
    """Return a pattern of one to three listed words."""
    words = (line.strip() for line in _COMMON.read_text("utf-8").splitlines() if not line.startswith("#"))
    return re.compile("(?:" + "|".join(map(re.escape, filter(None, words))) + "){1,3}")


@cache
def _of_nobody() -> str:
    """Return the hash of a password that nobody knows."""
    return _HASHER.hash(secrets.token_urlsafe())


def _normal(password: str) -> str:
    """Return a password in one form of Unicode, whatever the keyboard sends (RFC 8265 4.2)."""
    return unicodedata.normalize("NFC", password)
