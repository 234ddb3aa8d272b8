"""Find words that only we understood, in names and texts of the code and in the documents."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_CODE_FOLDERS = ("backup_scp", "benchmarks", "docs")
_DOCUMENTS = ("*.md", "docs/**/*.md", "conf/**/*", "findings/*.md")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`+[^`\n]+`+")
_LINK_TARGET = re.compile(r"\]\([^)\n]*\)")
_PACKAGE = "backup_scp"
_TEXTS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
_WORD_OF_NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True)
class Word:
    """A word to avoid.

    Attributes
    ----------
    pattern
        Regular expression that matches the whole word, in any case.
    use
        What to write instead.
    where
        ``names``, ``docs``, and ``code`` for docstrings, comments and messages.
    """

    pattern: str
    use: str
    where: list[str]


@dataclass(frozen=True)
class Use:
    """A use of such a word.

    Attributes
    ----------
    place
        File and line.
    found
        The name, or the word in a text.
    instead
        What to write.
    """

    place: str
    found: str
    instead: str


def uses(root: Path, words: Iterable[Word]) -> Iterator[Use]:
    """Yield every use, in names first."""
    words = list(words)
    for folder in _CODE_FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            yield from _in_names(root, path, [word for word in words if "names" in word.where])
    for path in sorted((root / _PACKAGE).rglob("*.py")):
        yield from _in_code(root, path, [word for word in words if "code" in word.where])
    for pattern in _DOCUMENTS:
        for path in sorted(filter(Path.is_file, root.glob(pattern))):
            yield from _in_document(root, path, [word for word in words if "docs" in word.where])


def _in_names(root: Path, path: Path, words: list[Word]) -> Iterator[Use]:
    for name, line in _names(path):
        parts = [part.lower() for part in _WORD_OF_NAME.findall(name)]
        for word in words:
            if any(re.fullmatch(word.pattern, part) for part in parts):
                yield Use(f"{path.relative_to(root)}:{line}", name, word.use)


def _names(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the names of a module, its classes and its functions."""
    yield (path.parent.name if path.stem == "__init__" else path.stem), 1
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno


def _in_code(root: Path, path: Path, words: list[Word]) -> Iterator[Use]:
    """Search docstrings, comments and messages, which have a space; a name or a key has none."""
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type in _TEXTS and " " in token.string:
                yield from _in_text(path.relative_to(root), token.string, words, token.start[0])


def _in_document(root: Path, path: Path, words: list[Word]) -> Iterator[Use]:
    yield from _in_text(path.relative_to(root), path.read_text("utf-8"), words, 1)


def _in_text(path: Path, text: str, words: list[Word], first_line: int) -> Iterator[Use]:
    for ignored in (_FENCE, _CODE, _LINK_TARGET):
        text = ignored.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    for number, line in enumerate(text.splitlines(), first_line):
        for word in words:
            for found in re.finditer(rf"\b(?:{word.pattern})\b", line, re.IGNORECASE):
                yield Use(f"{path}:{number}", found[0], word.use)
