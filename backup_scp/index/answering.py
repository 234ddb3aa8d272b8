"""Which version of a SOP Instance answers queries.

The sender (site and calling AE title) whose version arrived first owns the instance; its latest version answers.  A
version from anyone else is kept and flagged as a clash, and does not take over: what a clinic's own console sent is not
replaced by what another AE calls by the same UID.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """What the rule looks at; arrivals at the same microsecond are ordered by location, as rebuild enters them."""

    received_at: str
    location: str
    sender: tuple[str, str]
    answering: bool = False


class Decision(NamedTuple):
    """What a further version changes."""

    takes_over: bool
    clash: bool
    others_clash: bool


def decide(held: Sequence[Candidate], arrived: Candidate) -> Decision:
    """Judge a further version of an instance; ``held`` are the versions it has, one of them answering."""
    owner = min([*held, arrived]).sender
    answering = next(candidate for candidate in held if candidate.answering)
    if arrived.sender != owner:
        return Decision(takes_over=False, clash=True, others_clash=False)
    if answering.sender != owner:  # it was first after all, and entered late
        return Decision(takes_over=True, clash=False, others_clash=True)
    return Decision(takes_over=arrived > answering, clash=False, others_clash=False)
