"""Tell in what a wrong AE title differs from the right one: people enter AE titles by hand, on both sides."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache

_NEAR = 0.8
_SHORTEST = 4  # of shorter ones, one letter is a large part: DR1 and DR2 are two consoles
_LONGEST = 16  # PS3.5 6.2, AE
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_NOT_ENTERED = ("ANY-SCP", "ANYSCP", "ANY_SCP", "ANY")  # what dcmtk and others send when nobody has entered one


def spelling(said: str, meant: str) -> str:
    """Return why two AE titles that read the same are not equal (PS3.5 6.2); empty when they do not read the same."""
    if said.casefold() == meant.casefold():
        return "capitals count"
    if _letters(said) == _letters(meant):
        return "blanks, hyphens and underscores count"
    return ""


@lru_cache(maxsize=1024)
def likeness(said: str, meant: str) -> str:
    """Return in what a wrong AE title differs from the right one; empty when it is another one altogether."""
    if not said or said == meant:
        return ""
    if same := spelling(said, meant):
        return same
    if len(said) >= _SHORTEST and (meant.startswith(said) or said.startswith(meant[:_LONGEST])):
        return "it is cut off, or too long"
    is_near = min(len(said), len(meant)) >= _SHORTEST and _ratio(said, meant) >= _NEAR
    return "compare it letter by letter" if is_near else ""


def fix_of_called(said: str, ours: str, calling: str) -> str:
    """Return what to do about a caller that uses another AE title than ours."""
    if calling == ours:
        return f"the two AE titles are exchanged at the sender: the called one is {ours}, its own is another"
    fix = f"set the called AE title to {ours} at the sender"
    if _ADDRESS.fullmatch(said):
        return f"{fix}: an address is no AE title, and has a field of its own"
    if said in _NOT_ENTERED:
        return f"{fix}: nobody has entered one there yet"
    hint = likeness(said, ours)
    return f"{fix}: {hint}" if hint else fix


def _letters(title: str) -> str:
    return "".join(filter(str.isalnum, title)).casefold()


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False).ratio()
