"""The result of a check, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How serious a finding is."""

    OK = "ok"  # nothing to do
    NOTE = "note"  # worth a look, when there is time
    ACT = "act"  # a person must act: the exit code is 1


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    what
        Subject, in a word that stays the same: ``node``, ``storing``, ``disk``, ``index``, ``damage``,
        ``refused``, ``settings``, ``port`` and so on.
    severity
        ``ok``; ``note``: worth a look; ``act``: a person must act, and the exit code is 1.
    sentence
        The result, in a sentence.
    fix
        What to do; empty when there is nothing to do. It may have several lines to paste.
    can_wait
        Whether today is soon enough, where others with this subject cannot wait; it does not change the exit code.
    """

    what: str
    severity: Severity
    sentence: str
    fix: str = ""
    can_wait: bool = False


def needs_a_person(findings: list[Finding]) -> bool:
    """Tell whether a person must act."""
    return any(finding.severity is Severity.ACT for finding in findings)
