"""Check the subjects of commits: ``area: imperative``, short, without a dot at the end."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class UncheckedError(Exception):
    """The history cannot be read here, and why."""


@dataclass(frozen=True)
class SubjectRule:
    """The rule for subjects, as ``[commits]`` of rules.toml has it.

    Attributes
    ----------
    after
        Hash of the last commit that is not checked.
    longest
        Characters.
    areas
        Names that may stand before the colon.
    imperatives
        Imperatives that end like another form of a verb.
    """

    after: str
    longest: int
    areas: list[str]
    imperatives: list[str]


def problems(subject: str, rule: SubjectRule) -> list[str]:
    """List the violations of a subject."""
    found = []
    if len(subject) > rule.longest:
        found.append(f"it has {len(subject)} characters, {rule.longest} are allowed")
    if subject.endswith("."):
        found.append("it ends with a dot")
    areas, colon, rest = subject.partition(": ")
    if not colon or not rest:
        return [*found, "it is not `area: imperative`"]
    if unknown := [area for area in areas.split(", ") if area not in rule.areas]:
        found.append(f"{', '.join(unknown)} is no area; the areas are {', '.join(rule.areas)}")
    verb = rest.split()[0]
    if not re.fullmatch(r"[a-z][a-z-]*", verb) or _is_other_form(verb, rule):
        found.append(f'after the area comes an imperative ("fix", "add"), and "{verb}" is none')
    return found


def _is_other_form(verb: str, rule: SubjectRule) -> bool:
    """Recognise "added", "adding", "adds" and words that are no verb."""
    no_verb = {"a", "an", "how", "it", "no", "nobody", "the", "what", "when", "where", "which", "who", "whose"}
    return verb in no_verb or (verb.endswith(("ed", "ing", "s")) and verb not in rule.imperatives)


def subjects(root: Path, after: str) -> Iterator[tuple[str, str]]:
    """Yield hash and subject of each commit after ``after``, without merges.

    Raises
    ------
    UncheckedError
        There is no git here, or the clone does not reach back to ``after``.
    """
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        if Path(top.strip()).resolve() != root.resolve():
            raise UncheckedError("this source tree is not a git checkout")
    except (OSError, subprocess.CalledProcessError):
        raise UncheckedError("this source tree is not a git checkout") from None
    try:
        _git(root, "merge-base", "--is-ancestor", after, "HEAD")
    except subprocess.CalledProcessError:
        reason = f"this clone does not contain {after[:12]}, after which commits are checked (a shallow clone?)"
        raise UncheckedError(reason) from None
    for line in _git(root, "log", "--no-merges", "--format=%h %s", f"{after}..HEAD").splitlines():
        commit, _, subject = line.partition(" ")
        yield commit, subject


def _git(root: Path, *arguments: str) -> str:
    argv = ["git", "-C", str(root), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
