"""Decide which version of a SOP Instance answers queries: the rule of ADR 0005.

The rule takes the versions in the order of arrival.  The first one answers, and its sender owns the instance.  For each
further one, ``may_replace`` tells whether it answers from then on; otherwise it is kept and flagged as a clash.  A
version with the same content as another one, in another encoding, is kept and changes nothing, whoever sent it.

A truncated version never replaces a complete one.  A complete version replaces a truncated one, whoever sent it; the
owner stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Sender(NamedTuple):
    """The sender of a version.

    Attributes
    ----------
    remote
        Its name in the settings, when AE title and address were those of a ``[[remote]]``; empty for any other sender,
        whatever its AE title.
    site, ae_title
        The site that it was configured for, and the AE title that it gave.
    is_import
        Whether the version was imported from files.
    """

    remote: str
    site: str
    ae_title: str
    is_import: bool = False


class Candidate(NamedTuple):
    """The values that the rule uses; arrivals in the same microsecond are ordered by location, as in a rebuild."""

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
        """Its sort key among the versions of its instance."""
        return self[:2]


def may_replace(owner: Sender, arrived: Candidate) -> bool:
    """Tell whether a version replaces the owner's as the answering one; both are complete.

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
    """The rule's result for a version.

    Attributes
    ----------
    answering
        Whether it answers queries.
    reencoded
        Whether it has the same content as another version in another encoding; then it changes nothing, like a re-send.
    clash
        Whether its sender may not replace the answering version.
    until
        When the version that replaced it came; empty while it answers, or if it never did.
    """

    answering: bool = False
    clash: bool = False
    until: str = ""
    reencoded: bool = False


def standings(candidates: Sequence[Candidate]) -> dict[str, Standing]:
    """Apply the rule to all versions of an instance; return the results by location."""
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
    """The effect of a further version.

    Attributes
    ----------
    takes_over
        Whether it answers from now on.
    standing
        Its own result.
    held
        The results of the others, by location.
    """

    takes_over: bool
    standing: Standing
    held: dict[str, Standing]


def decide(held: Sequence[Candidate], arrived: Candidate) -> Decision:
    """Apply the rule to a further version of an instance; ``held`` are its versions, one of them answering.

    When the further version is older than one of them and another of them must answer now, the further version
    answers until the study is re-indexed: the attributes of that other one are not known here.
    """
    judged = standings([*held, arrived])
    answering = next(each.location for each in held if each.answering)
    standing = judged.pop(arrived.location)
    takes_over = not judged[answering].answering
    return Decision(takes_over, standing._replace(answering=takes_over), judged)
