"""The words on the pages, one file for each language in ``texts/``; further folders are for patients and users."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "texts"
DEFAULT = "en"
FOR_PATIENTS = _FOLDER / "patients"
FOR_USERS = _FOLDER / "users"
"""Languages of login, account and refusals, which everybody sees; the other pages are for who runs the node."""

_NUMBER = re.compile(r"[0-9]+")


class PageTexts:
    """The words in one language.

    Parameters
    ----------
    language
        Name of its file, such as ``en``.
    words
        Sentences by ``section.name``; ``{name}`` is a place for a value.
    """

    def __init__(self, language: str, words: Mapping[str, str]) -> None:
        self.language = language
        self._words = words

    def __call__(self, name: str, /, **values: object) -> str:
        """Return a sentence with its values."""
        return self._words[name].format_map(values)

    def __contains__(self, name: str) -> bool:
        return name in self._words

    def said(self, sentence: object) -> str:
        """Return what the node says, in this language; in English when there is no translation of it."""
        english = str(sentence)
        translated = self._words.get(f"sentences.{_NUMBER.sub('#', english)}")
        if translated is None:
            return english
        numbers = iter(_NUMBER.findall(english))
        return re.sub("#", lambda _: next(numbers, ""), translated)

    def over(self, other: PageTexts) -> PageTexts:
        """Return these words, and those of another language where there are none."""
        return PageTexts(self.language, {**other._words, **self._words})


@lru_cache
def languages(folder: Path = _FOLDER) -> tuple[str, ...]:
    """Return the languages that have a file."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


@lru_cache
def texts_in(language: str, folder: Path = _FOLDER) -> PageTexts:
    """Read the words of a language; what it lacks is in English."""
    words = _read(folder / f"{DEFAULT}.toml")
    return PageTexts(language, words if language == DEFAULT else words | _read(folder / f"{language}.toml"))


@lru_cache
def user_texts_in(language: str) -> PageTexts:
    """Read the words of login, account and refusals; what a language lacks is in English."""
    return texts_in(language, FOR_USERS).over(texts_in(DEFAULT))


def chosen(accept_language: str, folder: Path = _FOLDER) -> str:
    """Choose among the languages that a browser wants (RFC 9110 12.5.4)."""
    wanted = []
    for number, part in enumerate(accept_language[:1000].split(",")):
        name, _, weight = part.partition(";")
        found = re.fullmatch(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*", weight)
        wanted.append((-(float(found[1]) if found else 1.0), number, name.strip().lower().partition("-")[0]))
    return next((name for weight, _, name in sorted(wanted) if weight and name in languages(folder)), DEFAULT)


def _read(file: Path) -> dict[str, str]:
    sections = tomllib.loads(file.read_text("utf-8"))
    return {f"{section}.{name}": text for section, texts in sections.items() for name, text in texts.items()}
