"""Make the A-ASSOCIATE-AC to an A-ASSOCIATE-RQ, and cache it (PS3.8 9.3.2 and 9.3.3, PS3.7 D.3.3).

What is accepted depends only on the bytes of the request, and a console sends the same bytes each time.  So
pynetdicom's codecs see the first request, and the cache answers the others.  ``Server`` decides each time what depends
on the moment: who calls, from where, and how many Associations there are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.config import IGNORE
from pydicom.uid import UID

from backup_scp.dicom.query.information_model import Negotiated
from backup_scp.dimse.association import extended_negotiation
from backup_scp.dimse.association.association import Context
from backup_scp.dimse.association.context_refusals import ContextRefusal, refusals
from backup_scp.dimse.association.negotiation import ACCEPTED, answer_context, answer_role, is_storage
from backup_scp.dimse.upper_layer.association_request import AssociationRequest, InvalidRequest, read_request
from backup_scp.dimse.upper_layer.codecs import (
    A_ASSOCIATE,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RQ,
    AsynchronousOperationsWindowNegotiation,
    PresentationContext,
    SCP_SCU_RoleSelectionNegotiation,
    ServiceParameter,
    SOPClassExtendedNegotiation,
)
from backup_scp.dimse.upper_layer.named_site import site_of
from backup_scp.dimse.upper_layer.user_identity import with_positive_answer
from backup_scp.dimse.upper_layer.user_information import APPLICATION_CONTEXT, of_ourselves
from backup_scp.machine.fair_lock import FairLock

_REMEMBERED_BYTES = 1 << 20
_USUAL_BYTES = 16 << 10  # a request up to this size overtakes longer ones
_LARGEST_SHARE = 8  # a request may use an eighth of the cache at most


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What one A-ASSOCIATE-RQ proposes, and what is accepted.

    Attributes
    ----------
    calling, called
        AE titles without padding; empty when blank.
    protocol_version
        Bit 0 is the only version defined (PS3.8 9.3.2).
    oddities
        Harmless violations of PS3.8 in it, each with its value; the request is accepted nevertheless.
    answer
        The A-ASSOCIATE-AC, as it is sent.
    contexts
        Accepted Presentation Contexts by ID.
    negotiated
        Result of SOP Class Extended Negotiation, by SOP Class UID.
    peer_maximum_length
        Maximum bytes of a P-DATA-TF to the requestor, 0 for no limit (PS3.8 D.1).
    site
        The clinic that the request names, and whose naming ``answer`` accepts; empty for none.
    refusals
        The SOP Classes that are refused, with the reasons.
    services
        The accepted SOP Classes of other services than storage.
    """

    calling: str
    called: str
    protocol_version: int
    oddities: tuple[str, ...]
    answer: bytes
    contexts: Mapping[int, Context]
    negotiated: Mapping[str, Negotiated]
    peer_maximum_length: int
    site: str = ""
    refusals: tuple[ContextRefusal, ...] = ()
    services: tuple[str, ...] = ()


class NegotiationCache:
    """Caches the latest acceptances by the bytes of their request.

    Parameters
    ----------
    maximum_pdu_length
        Maximum bytes of a P-DATA-TF to us, as offered to peers (PS3.8 D.1).
    limit_bytes
        Limit of cached requests and answers; the objects made of them take a few times as much.  The limit holds also
        for callers that send a different request each time, or a huge one.
    """

    def __init__(self, maximum_pdu_length: int, limit_bytes: int = _REMEMBERED_BYTES) -> None:
        self._maximum_pdu_length = maximum_pdu_length
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._decoding = FairLock()  # one at a time: it takes fifty times the memory of the request, and a core
        self._known: OrderedDict[bytes, Acceptance] = OrderedDict()
        self._size_bytes = 0

    def of(self, request: bytes) -> Acceptance:
        """Return the acceptance of a whole A-ASSOCIATE-RQ, from the cache or newly made.

        Raises
        ------
        InvalidRequest
            The request cannot be answered.
        """
        with self._lock:
            known = self._known.get(request)
            if known is not None:
                self._known.move_to_end(request)
                return known
        with self._decoding.turn(first=len(request) <= _USUAL_BYTES):
            acceptance = accept(request, self._maximum_pdu_length)
        self._remember(request, acceptance)
        return acceptance

    def _remember(self, request: bytes, acceptance: Acceptance) -> None:
        size_bytes = len(request) + len(acceptance.answer)
        if size_bytes > self._limit_bytes // _LARGEST_SHARE:
            return
        with self._lock:
            if request not in self._known:
                self._known[request] = acceptance
                self._size_bytes += size_bytes
            while self._size_bytes > self._limit_bytes:
                forgotten, its = self._known.popitem(last=False)
                self._size_bytes -= len(forgotten) + len(its.answer)


def accept(encoded: bytes, maximum_pdu_length: int) -> Acceptance:
    """Make the acceptance of a whole A-ASSOCIATE-RQ.

    Raises
    ------
    InvalidRequest
        The request cannot be answered.
    """
    asked = read_request(encoded)
    request = _decode(asked)
    items = request.user_information
    contexts = [answer_context(context) for context in request.presentation_context_definition_list]
    by_id = {context.context_id or 0: context for context in contexts if context.result == ACCEPTED}
    accepted = [context for _, context in sorted(by_id.items())]
    rejected = [context for context in contexts if context.result != ACCEPTED]
    abstract_syntaxes = {str(context.abstract_syntax) for context in accepted}
    roles = _answered_roles(items, abstract_syntaxes)
    extended = _answered_extended(items, abstract_syntaxes)
    answer = asked.answer(_encoded_answer(request, [*accepted, *rejected], roles, extended, maximum_pdu_length))
    site = site_of(encoded)
    return Acceptance(
        asked.calling,
        asked.called,
        asked.protocol_version,
        asked.oddities,
        with_positive_answer(answer) if site else answer,
        _accepted_contexts(asked, by_id, roles),
        {
            sop_class: extended_negotiation.negotiated(sop_class, item.service_class_application_information or b"")
            for sop_class, item in extended.items()
        },
        request.maximum_length_received or 0,
        site,
        refusals(rejected, abstract_syntaxes),
        tuple(sorted(abstract for abstract in abstract_syntaxes if not is_storage(abstract))),
    )


def _encoded_answer(
    request: A_ASSOCIATE,
    contexts: list[PresentationContext],
    roles: Mapping[str, SCP_SCU_RoleSelectionNegotiation],
    extended: Mapping[str, SOPClassExtendedNegotiation],
    maximum_pdu_length: int,
) -> bytes:
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(APPLICATION_CONTEXT)
    answer.calling_ae_title, answer.called_ae_title = request.calling_ae_title, request.called_ae_title
    answer.presentation_context_definition_results_list = contexts
    answer.user_information = [
        *of_ourselves(maximum_pdu_length),
        *roles.values(),
        *_answered_window(request.user_information),
        *extended.values(),
    ]
    return A_ASSOCIATE_AC(answer).encode()


def _accepted_contexts(
    asked: AssociationRequest,
    accepted: Mapping[int, PresentationContext],
    roles: Mapping[str, SCP_SCU_RoleSelectionNegotiation],
) -> dict[int, Context]:
    """Return the accepted contexts by the IDs that the peer chose."""
    contexts = {}
    for context_id, context in accepted.items():
        abstract, own_id = str(context.abstract_syntax), asked.context_ids[context_id]
        is_scp = abstract in roles and bool(roles[abstract].scp_role)
        contexts[own_id] = Context(own_id, abstract, str(context.transfer_syntax[0]), peer_is_scp=is_scp)
    return contexts


def _decode(request: AssociationRequest) -> A_ASSOCIATE:
    """Decode a request from which harmless violations were removed."""
    try:
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(request.encoded)
        return pdu.to_primitive()
    except Exception:  # noqa: BLE001 - the codec may raise anything for malformed bytes
        raise InvalidRequest("an A-ASSOCIATE-RQ whose items cannot be decoded") from None


def _answered_roles(
    items: Sequence[ServiceParameter], accepted: set[str]
) -> dict[str, SCP_SCU_RoleSelectionNegotiation]:
    """Answer the proposed roles of accepted SOP Classes (PS3.7 D.3.3.4)."""
    proposed = {str(i.sop_class_uid): i for i in items if isinstance(i, SCP_SCU_RoleSelectionNegotiation)}
    answers = {uid: answer_role(uid, item) for uid, item in proposed.items() if uid in accepted}
    return {uid: answer for uid, answer in answers.items() if answer is not None}


def _answered_extended(items: Sequence[ServiceParameter], accepted: set[str]) -> dict[str, SOPClassExtendedNegotiation]:
    """Answer SOP Class Extended Negotiation of accepted SOP Classes, where we support it (PS3.7 D.3.3.5)."""
    proposed = {str(i.sop_class_uid): i for i in items if isinstance(i, SOPClassExtendedNegotiation)}
    answers: dict[str, SOPClassExtendedNegotiation] = {}
    for uid, item in proposed.items():
        answered = extended_negotiation.answer(uid, item.service_class_application_information or b"")
        if uid in accepted and answered:  # otherwise nothing was proposed, or the SOP Class defines nothing
            answers[uid] = SOPClassExtendedNegotiation()
            answers[uid].sop_class_uid = UID(uid, IGNORE)
            answers[uid].service_class_application_information = answered
    return answers


def _answered_window(items: Sequence[ServiceParameter]) -> list[AsynchronousOperationsWindowNegotiation]:
    """Answer a proposal of several operations at a time: we allow one (PS3.7 D.3.3.3)."""
    for proposed in items:
        if isinstance(proposed, AsynchronousOperationsWindowNegotiation):
            if (proposed.maximum_number_operations_invoked, proposed.maximum_number_operations_performed) == (1, 1):
                return []
            answer = AsynchronousOperationsWindowNegotiation()
            answer.maximum_number_operations_invoked = 1
            answer.maximum_number_operations_performed = 1
            return [answer]
    return []


__all__ = ["Acceptance", "InvalidRequest", "NegotiationCache", "accept"]
