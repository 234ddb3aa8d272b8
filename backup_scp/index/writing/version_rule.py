"""Which version of a SOP Instance answers queries: the rule of ADR 0005.

The versions are looked at in the order of arrival.  The first one answers, and its sender owns the instance.  Of each
further one ``may_replace`` tells whether it answers from then on.  One that may not is kept and flagged as a clash.
One that says the same as another version, in another encoding, is kept and changes nothing, whoever sent it.

One that is truncated never takes the place of one that is whole; one that is whole takes the place of one that is
truncated, whoever sent it, and the owner stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Sender(NamedTuple):
    """Who sent a version.

    Attributes
    ----------
    remote
        Its name in the settings, where AE title and address were those of a ``[[remote]]``; empty for anybody else,
        whatever AE title it gave.
    site, ae_title
        What it was configured for, and what it called itself.
    is_import
        Whether somebody imported it from files, whoever made them.
    """

    remote: str
    site: str
    ae_title: str
    is_import: bool = False


class Candidate(NamedTuple):
    """What the rule looks at; arrivals at the same microsecond are ordered by location, as rebuild enters them."""

    order: str
    location: str
    sender: Sender
    received_at: str = ""
    answering: bool = False
    is_whole: bool = True
    sha256: str = ""
    same_as: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands among the versions of its instance."""
        return self[:2]


def may_replace(owner: Sender, arrived: Candidate) -> bool:
    """Tell whether a version answers in place of the owner's; both are whole.

    ========================= ============================================== =======
    the owner is              the further version is from                    answers
    ========================= ============================================== =======
    a configured remote       the same one: its name, or site and AE title   yes
    a configured remote       anybody else, also with its AE title           no
    nobody configured         the same site and AE title, configured or not  yes
    nobody configured         another AE title                               no
    an import                 a configured remote                            yes
    an import                 anybody else                                   no
    anybody                   an import                                      no
    ========================= ============================================== =======
    """
    sender = arrived.sender
    if sender.is_import or owner.is_import:
        return bool(sender.remote)
    if owner.remote and not sender.remote:
        return False
    is_the_same_remote = bool(owner.remote) and owner.remote == sender.remote
    return is_the_same_remote or (owner.site, owner.ae_title) == (sender.site, sender.ae_title)


class Standing(NamedTuple):
    """What the rule makes of a version.

    Attributes
    ----------
    answering
        Whether it answers.
    reencoded
        Whether it says the same as another version, in another encoding: it changes nothing, as a re-send does.
    clash
        Whether it is from somebody who may not replace what answered.
    until
        When the version came that took its place; empty while it answers, and where it never did.
    """

    answering: bool = False
    clash: bool = False
    until: str = ""
    reencoded: bool = False


def standings(candidates: Sequence[Candidate]) -> dict[str, Standing]:
    """Judge all versions of an instance; by location."""
    found: dict[str, Standing] = {}
    first, *further = sorted(candidates, key=lambda each: each.place)
    answering, owner = first, first.sender
    digests = {each.sha256 for each in candidates} - {""}
    for each in further:
        if each.same_as in digests:
            found[each.location] = Standing(reencoded=True)
            continue
        is_allowed = may_replace(owner, each)
        if each.is_whole > answering.is_whole or (is_allowed and each.is_whole == answering.is_whole):
            found[answering.location] = Standing(until=each.received_at)
            answering, owner = each, each.sender if is_allowed else owner
        else:
            found[each.location] = Standing(clash=not is_allowed and each.is_whole)
    found[answering.location] = Standing(answering=True)
    return found


class Decision(NamedTuple):
    """What a further version changes.

    Attributes
    ----------
    takes_over
        Whether it answers from now on.
    standing
        Its own.
    held
        Those of the others, by location.
    """

    takes_over: bool
    standing: Standing
    held: dict[str, Standing]


def decide(held: Sequence[Candidate], arrived: Candidate) -> Decision:
    """Judge a further version of an instance; ``held`` are the versions it has, one of them answering.

    Where it came before one of those, and changes which of them answers, it takes over until the instance is entered
    anew: of that one nobody knows here what it says.
    """
    judged = standings([*held, arrived])
    answering = next(each.location for each in held if each.answering)
    standing = judged.pop(arrived.location)
    takes_over = not judged[answering].answering
    return Decision(takes_over, standing._replace(answering=takes_over), judged)
