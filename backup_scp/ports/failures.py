"""How often somebody has failed to log in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures in a row.

    Attributes
    ----------
    number
        How many.
    last_at
        When the last one began.
    """

    number: int
    last_at: datetime


class FailureRecords(Protocol):
    """Failures, by what they are counted for: a name, an address.

    A change is seen by every process at once and outlives them, but waits for no disk: who guesses passwords must not
    slow it.  A power cut may lose the last second.
    """

    def failures(self, key: str) -> Failures | None:
        """Return the failures of a key."""

    def count_failure(self, kind: str, key: str, before: Failures | None, after: Failures) -> bool:
        """Replace what ``failures`` returned; False when somebody else was faster.

        Of each kind only so many are kept; those that failed longest ago are forgotten.
        """

    def forget_failures(self, key: str) -> None:
        """Forget a key."""
