"""Propose the Presentation Contexts for sending stored instances (PS3.8 9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.config import IGNORE
from pydicom.uid import UID

from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.ports import StoredVersion

_MOST_CONTEXTS = 128  # odd context IDs 1 to 255, PS3.8 9.3.2.2
_NATIVE = NATIVE[:2]  # targets of transcoding

ProposedContexts = list[tuple[str, Sequence[str]]]
"""The contexts of one Association: each an Abstract Syntax with its Transfer Syntaxes."""


class ContextsToPropose:
    """Collects the SOP Classes and Transfer Syntaxes of instances, and makes Presentation Contexts for them.

    Each SOP Class gets one context for each stored Transfer Syntax alone, so that the peer cannot choose another one,
    and one for each native syntax, for transcoding.  The contexts of a SOP Class stay in one Association.  An invalid
    UID (with letters, over 64 characters) comes last, in an Association of its own, because a peer may abort it.
    """

    def __init__(self) -> None:
        self._stored: dict[str, dict[str, None]] = {}  # Transfer Syntaxes by SOP Class

    def add(self, held: StoredVersion) -> None:
        """Add the SOP Class and Transfer Syntax of an instance, if they can be proposed."""
        if held.sop_class_uid and held.sop_class_uid.isascii():
            syntaxes = self._stored.setdefault(held.sop_class_uid, {})
            if held.transfer_syntax_uid not in syntaxes and _is_valid(held.transfer_syntax_uid):
                syntaxes[held.transfer_syntax_uid] = None

    def proposals(self) -> list[ProposedContexts]:
        """Return the contexts, at most 128 for each Association; one empty proposal when nothing was added."""
        proposals: list[ProposedContexts] = [[]]
        for abstract, syntaxes in sorted(self._stored.items(), key=lambda item: not _is_valid(item[0])):
            some = list(syntaxes)[: _MOST_CONTEXTS - len(_NATIVE)]  # more are very unlikely, and would be transcoded
            contexts = [(abstract, (syntax,)) for syntax in dict.fromkeys((*some, *_NATIVE))]
            if proposals[-1] and (len(proposals[-1]) + len(contexts) > _MOST_CONTEXTS or not _is_valid(abstract)):
                proposals.append([])
            proposals[-1] += contexts
        return proposals


def propose(instances: Iterable[StoredVersion]) -> list[ProposedContexts]:
    """Return the Presentation Contexts for instances, see ``ContextsToPropose``."""
    wanted = ContextsToPropose()
    for held in instances:
        wanted.add(held)
    return wanted.proposals()


def _is_valid(uid: str) -> bool:
    return UID(uid, IGNORE).is_valid
