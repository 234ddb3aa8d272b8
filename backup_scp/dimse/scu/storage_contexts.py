"""Proposes the Presentation Contexts in which stored instances can be sent (PS3.8 9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.config import IGNORE
from pydicom.uid import UID

from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.ports import StoredVersion

_MOST_CONTEXTS = 128  # odd context IDs 1 to 255, PS3.8 9.3.2.2
_NATIVE = NATIVE[:2]  # what transcoding may end in

ProposedContexts = list[tuple[str, Sequence[str]]]
"""Of one Association: each an Abstract Syntax with its Transfer Syntaxes."""


class ContextsToPropose:
    """Gathers the SOP Classes and Transfer Syntaxes of what is to be sent, and makes Presentation Contexts of them.

    For each SOP Class one context with each Transfer Syntax that is stored, alone, so that the peer cannot choose
    another, and each native one to transcode to.  The contexts of a SOP Class stay in one Association.  Each that no
    peer need take (letters, over 64 characters) comes last and alone, for a peer may abort at the sight of it.
    """

    def __init__(self) -> None:
        self._stored: dict[str, dict[str, None]] = {}  # Transfer Syntaxes by SOP Class

    def add(self, held: StoredVersion) -> None:
        """Note the SOP Class and the Transfer Syntax of an instance, where they can be proposed."""
        if held.sop_class_uid and held.sop_class_uid.isascii():
            syntaxes = self._stored.setdefault(held.sop_class_uid, {})
            if held.transfer_syntax_uid not in syntaxes and _is_valid(held.transfer_syntax_uid):
                syntaxes[held.transfer_syntax_uid] = None

    def proposals(self) -> list[ProposedContexts]:
        """Make the contexts, at most 128 an Association; one without contexts where nothing was added."""
        proposals: list[ProposedContexts] = [[]]
        for abstract, syntaxes in sorted(self._stored.items(), key=lambda item: not _is_valid(item[0])):
            some = list(syntaxes)[: _MOST_CONTEXTS - len(_NATIVE)]  # nobody has more; if so, the rest is transcoded
            contexts = [(abstract, (syntax,)) for syntax in dict.fromkeys((*some, *_NATIVE))]
            if proposals[-1] and (len(proposals[-1]) + len(contexts) > _MOST_CONTEXTS or not _is_valid(abstract)):
                proposals.append([])
            proposals[-1] += contexts
        return proposals


def propose(instances: Iterable[StoredVersion]) -> list[ProposedContexts]:
    """Make the Presentation Contexts for a set of instances, see ``ContextsToPropose``."""
    wanted = ContextsToPropose()
    for held in instances:
        wanted.add(held)
    return wanted.proposals()


def _is_valid(uid: str) -> bool:
    return UID(uid, IGNORE).is_valid
