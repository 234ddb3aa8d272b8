"""Say why a Presentation Context was refused in an accepted Association, and what to do (PS3.8 9.3.3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backup_scp.dicom.uid_names import uid_name
from backup_scp.dimse.association.negotiation import is_storage, is_supported
from backup_scp.dimse.upper_layer.codecs import PresentationContext

MOST_REFUSALS = 8
"""Of one Association: a library that proposes all that exists is not worth a hundred lines."""

_MOST_SYNTAXES = 3
_REMOVE = "remove it from this node's entry there; images are stored without it"
_ELSEWHERE = (
    ("Worklist", "enter the RIS as its worklist server; images are stored without it"),
    ("Performed Procedure Step", "enter the RIS for MPPS, or switch MPPS off; images are stored without it"),
    ("Print", "enter the film printer as its print server, not this node"),
    ("Storage Commitment Pull", "choose the Push Model of Storage Commitment there"),
)


@dataclass(frozen=True, slots=True)
class ContextRefusal:
    """A refused Abstract Syntax.

    Attributes
    ----------
    sop_class_uid
        Which.
    reason
        Why, in words that go on after the caller's name.
    fix
        What to do, most often at the caller.
    """

    sop_class_uid: str
    reason: str
    fix: str


def refusals(refused: Iterable[PresentationContext], accepted: set[str]) -> tuple[ContextRefusal, ...]:
    """Return what was refused altogether: a SOP Class that was accepted in another context is none."""
    found: dict[str, set[str]] = {}
    for context in refused:
        abstract = str(context.abstract_syntax)
        if abstract not in accepted:
            found.setdefault(abstract, set()).update(map(str, context.transfer_syntax))
    return tuple(_refusal(abstract, sorted(syntaxes)) for abstract, syntaxes in list(found.items())[:MOST_REFUSALS])


def _refusal(abstract: str, syntaxes: list[str]) -> ContextRefusal:
    name = uid_name(abstract)
    if not is_supported(abstract):
        fix = next((fix for words, fix in _ELSEWHERE if words in name), _REMOVE)
        return ContextRefusal(abstract, f"it asks for {name}, which this node does not offer", fix)
    if is_storage(abstract) or not syntaxes:
        reason = f"it offers {name} without a Transfer Syntax"
        return ContextRefusal(abstract, reason, "choose one there, such as Explicit VR Little Endian")
    named = " and ".join(map(uid_name, syntaxes[:_MOST_SYNTAXES]))
    reason = f"it offers {name} only in {named}, which this service does not read"
    return ContextRefusal(abstract, reason, "let it offer Implicit VR Little Endian as well, as every AE must")
