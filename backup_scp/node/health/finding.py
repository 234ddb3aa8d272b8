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
    aspect
        Which of the possible findings with this ``what`` it is, in words that stay the same; empty for the only one.
    subject
        Whom or what it is about (a copy, a console); stays the same while the sentence changes. Empty for the node.
    number
        How many images or such it is about; 0 where nothing is counted.
    """

    what: str
    severity: Severity
    sentence: str
    fix: str = ""
    can_wait: bool = False
    aspect: str = ""
    subject: str = ""
    number: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same finding at another time: its sentence may name another day or count."""
        return (self.what, self.aspect, self.subject)


def needs_a_person(findings: list[Finding]) -> bool:
    """Tell whether a person must act."""
    return any(finding.severity is Severity.ACT for finding in findings)
