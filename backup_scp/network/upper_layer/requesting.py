"""Associations that we request: pynetdicom negotiates them from the first byte (PS3.8 9.2, PS3.7 D)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom import build_role
from pynetdicom._globals import MODE_REQUESTOR
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation

from backup_scp.errors import DestinationBusy, DestinationUnavailable, NothingAccepted
from backup_scp.network.tls import tls_reason
from backup_scp.network.upper_layer.connection import Interrupted
from backup_scp.network.upper_layer.layer import UpperLayer
from backup_scp.network.upper_layer.local_ae import LocalAE
from backup_scp.network.upper_layer.state_machine import ThreadlessAssociation, Transport
from backup_scp.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_REJECTED_TRANSIENT = 2  # PS3.8 9.3.4


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an Association of ours is asked for.

    Attributes
    ----------
    contexts
        Abstract Syntax and its Transfer Syntaxes; at most 128.
    as_scp
        Abstract Syntaxes for which we, the requestor, propose to be the SCP (PS3.7 D.3.3.4).
    maximum_pdu_length
        Bytes, offered to the peer (PS3.8 D.1).
    tls
        Whether to secure it (PS3.15 B.12).
    """

    local: LocalAE
    called: str
    host: str
    port: int
    contexts: Iterable[tuple[str, Iterable[str]]]
    as_scp: Iterable[str] = ()
    maximum_pdu_length: int = 131072
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Requested:
    """An Association of ours that was accepted.

    Attributes
    ----------
    contexts
        Accepted Presentation Contexts.
    we_are_scp
        Whether the peer lets us be the SCP, by SOP Class UID; nothing where it did not say.
    """

    upper_layer: UpperLayer
    contexts: list[PresentationContext]
    we_are_scp: Mapping[str, bool]


def request(proposal: Proposal, watch: Callable[[], None] | None) -> Requested:
    """Open an Association to a remote AE.

    Raises
    ------
    DestinationUnavailable
        With the reason, and what to look at.
    Interrupted
        By ``watch``, see ``Connection``.
    """
    timing = proposal.local.timing
    layer = UpperLayer(None, timing, proposal.host)
    association = ThreadlessAssociation(layer, MODE_REQUESTOR, proposal.local.ae_title)
    layer.machine = association.dul
    association.acse_timeout, association.connection_timeout = timing.association_s, timing.connect_s
    _connectable(association, proposal)
    _propose(association, proposal)
    layer.watch = watch
    try:
        association.request()
    except Interrupted:
        layer.abort(block=False)
        raise
    if not association.is_established:
        error = _why_not(association, f"{proposal.called} at {proposal.host}:{proposal.port}")
        layer.hang_up()
        raise error
    layer.peer_maximum_length = association.acceptor.maximum_length or 0
    roles = {str(uid): bool(role.scp_role) for uid, role in association.acceptor.role_selection.items()}
    return Requested(layer, association.accepted_contexts, roles)


def _connectable(association: ThreadlessAssociation, proposal: Proposal) -> None:
    """Give it a socket, and the address to connect it to."""
    try:
        remote = AddressInformation(proposal.host, proposal.port)
    except (OSError, UnicodeError):  # a name may be too long for DNS
        sentence = f"{proposal.called}: the name {proposal.host} is not known to DNS; check the host"
        raise DestinationUnavailable(sentence) from None
    local = AddressInformation.from_tuple(("", 0) if remote.is_ipv4 else ("::", 0))
    try:
        transport = Transport(association, address=local)
    except OSError as error:
        sentence = f"{proposal.called}: no socket for it can be had here ({error.strerror})"
        raise DestinationUnavailable(sentence) from None
    if proposal.tls:
        if proposal.local.tls is None:
            sentence = f"{proposal.called} wants TLS: set ca, certificate and key of [tls] in the settings"
            raise DestinationUnavailable(sentence)
        transport.tls_args = (proposal.local.tls, proposal.host)
    bare = transport.socket
    assert bare is not None  # noqa: S101 - for the type checker
    bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    association.set_socket(transport)
    association.dul.upper_layer.connection = bare
    association.dul.upper_layer.peer_address = remote.address
    association.acceptor.address_info, association.requestor.address_info = remote, local


def _propose(association: ThreadlessAssociation, proposal: Proposal) -> None:
    contexts = [build_context(abstract, list(transfer)) for abstract, transfer in proposal.contexts]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    ours = association.requestor
    ours.ae_title, association.acceptor.ae_title = proposal.local.ae_title, proposal.called
    ours.maximum_length = proposal.maximum_pdu_length
    ours.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ours.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ours.requested_contexts = contexts
    for abstract in proposal.as_scp:
        ours.add_negotiation_item(build_role(abstract, scu_role=False, scp_role=True))


def _why_not(association: ThreadlessAssociation, where: str) -> DestinationUnavailable:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        rejected = f"{where} rejected the association ({answer.result_str}: {answer.reason_str})"
        if answer.result == _REJECTED_TRANSIENT:
            return DestinationBusy(f"{rejected}; try again later")
        return DestinationUnavailable(f"{rejected}; check both AE titles there")
    if association.rejected_contexts:
        return NothingAccepted(f"{where} accepts none of the SOP Classes and Transfer Syntaxes")
    if association.dul.connected:
        return DestinationUnavailable(f"{where} did not answer the association request")
    failure = getattr(association.dul.socket, "failure", None)
    if isinstance(failure, ssl.SSLError):
        sentence = f"{where}: no TLS was agreed on ({tls_reason(failure)}); compare its certificate with ca in [tls]"
        return DestinationUnavailable(sentence)
    return DestinationUnavailable(f"{where} cannot be reached; check host, port and that machine's firewall")
