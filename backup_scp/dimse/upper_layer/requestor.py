"""Request Associations: Sta4, Sta5 and into Sta6 (PS3.8 9.2, PS3.7 D.3.3).

We send a destination the same A-ASSOCIATE-RQ each time, and it returns the same A-ASSOCIATE-AC.  So pynetdicom's codecs
see only the first of each; a cache has the others.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydicom.uid import UID

from backup_scp.dimse.upper_layer.buffered_socket import AssociationEnded, Interrupted
from backup_scp.dimse.upper_layer.codecs import (
    A_ASSOCIATE,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    PresentationContext,
    SCP_SCU_RoleSelectionNegotiation,
    build_context,
    build_role,
    negotiate_as_requestor,
)
from backup_scp.dimse.upper_layer.data_transfer import UpperLayer
from backup_scp.dimse.upper_layer.local_ae import LocalAE
from backup_scp.dimse.upper_layer.named_site import is_answered, with_site
from backup_scp.dimse.upper_layer.reachability import TRANSIENT, why_rejected, why_unreachable
from backup_scp.dimse.upper_layer.state_table import CONNECTION_OPENED, PDU_EVENTS
from backup_scp.dimse.upper_layer.tls_faults import why_not_trusted
from backup_scp.dimse.upper_layer.tls_socket import Secured, SecuredSocket
from backup_scp.dimse.upper_layer.user_information import APPLICATION_CONTEXT, of_ourselves
from backup_scp.dimse.upper_layer.variable_items import without_unknown_items
from backup_scp.errors import (
    DestinationBusy,
    DestinationRefuses,
    DestinationUnavailable,
    DestinationUnreachable,
    NothingAccepted,
    SiteNotTaken,
)

_ACCEPTANCE, _REJECTION = 0x02, 0x03  # PDU types, PS3.8 9.3.3 and 9.3.4
_NO_SOCKET = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BRING = "this node brings for clinic {}: add it to brings_sites of this node's [[remote]] there"
_REMEMBERED = 16  # requests and answers, of 256 KiB at most, since ``association_control`` reads no longer PDU


@dataclass(frozen=True, slots=True)
class Proposal:
    """What we propose for an Association.

    Attributes
    ----------
    contexts
        Abstract Syntax and its Transfer Syntaxes; at most 128.
    as_scp
        Abstract Syntaxes for which we, the requestor, propose the SCP role (PS3.7 D.3.3.4).
    maximum_pdu_length
        Maximum bytes of a P-DATA-TF to us, as offered to the peer (PS3.8 D.1).
    tls
        Whether to use TLS (PS3.15 B.12).
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
class AcceptedContexts:
    """The accepted part of a proposal.

    Attributes
    ----------
    contexts
        Accepted Presentation Contexts.
    we_are_scp
        Whether the peer accepts us as SCP, by SOP Class UID; no entry when it did not answer.
    peer_maximum_length
        Maximum bytes of a P-DATA-TF to the peer, 0 for no limit (PS3.8 D.1).
    implementation
        Implementation Class UID and Implementation Version Name, if the peer names them (PS3.7 D.3.3.2).
    takes_site
        Whether the peer answers that the Association is for the site which the proposal names.
    """

    contexts: Sequence[PresentationContext]
    we_are_scp: Mapping[str, bool]
    peer_maximum_length: int
    implementation: str = ""
    takes_site: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """An A-ASSOCIATE-RQ as a hashable key of the cache."""

    calling: str
    called: str
    contexts: tuple[tuple[str, tuple[str, ...]], ...]
    as_scp: tuple[str, ...]
    maximum_pdu_length: int
    as_site: str


class RequestingLayer(UpperLayer):
    """The upper layer of an Association that we request."""

    is_requestor = True

    def request(self, request: bytes) -> bytes | None:
        """Send an A-ASSOCIATE-RQ and return the answer; None when another PDU came, or nothing in time."""
        self.happen(CONNECTION_OPENED, request)
        try:
            pdu = self._read_pdu(time.monotonic() + self.association_timeout_s)
        except AssociationEnded:
            return None
        if pdu is None or pdu[0] in (_ACCEPTANCE, _REJECTION):
            return pdu
        self._act_on(pdu)
        return None

    def accepted(self, peer_maximum_length: int) -> None:
        """Continue after an A-ASSOCIATE-AC."""
        self.peer_maximum_length = peer_maximum_length
        self.happen(PDU_EVENTS[_ACCEPTANCE])

    def rejected(self) -> None:
        """End after an A-ASSOCIATE-RJ."""
        self.happen(PDU_EVENTS[_REJECTION])
        self.close()


def request(proposal: Proposal, watch: Callable[[], None] | None) -> tuple[UpperLayer, AcceptedContexts]:
    """Open an Association to a remote AE.

    Raises
    ------
    DestinationUnavailable
        The text has the reason and what to check.
    Interrupted
        Raised by ``watch``, see ``BufferedSocket``.
    """
    where, timing = f"{proposal.called} at {proposal.host}:{proposal.port}", proposal.local.timing
    asked = _Asked(
        proposal.local.ae_title,
        proposal.called,
        tuple((abstract, tuple(transfer)) for abstract, transfer in proposal.contexts),
        tuple(proposal.as_scp),
        proposal.maximum_pdu_length,
        proposal.local.as_site,
    )
    encoded = _encoded(asked)
    layer = RequestingLayer(_connected(proposal, where), timing, proposal.host)
    layer.watch = watch
    try:
        pdu = layer.request(encoded)
    except Interrupted:
        layer.abort(block=False)
        raise
    if pdu is not None and pdu[0] == _ACCEPTANCE:
        answer = _acceptance(asked, pdu)
        if answer is not None:
            layer.accepted(answer.peer_maximum_length)
            if asked.as_site and not answer.takes_site:
                layer.abort()
                raise SiteNotTaken(f"{where} does not know of clinics that {_BRING.format(asked.as_site)}")
            if answer.contexts:
                return layer, answer
            layer.abort()
            raise NothingAccepted(f"{where} accepts none of the SOP Classes and Transfer Syntaxes")
        layer.refuse("an A-ASSOCIATE-AC that cannot be decoded")
    elif pdu is not None:
        rejection = _rejection(pdu, where, asked)
        if rejection is not None:
            layer.rejected()
            if asked.as_site and isinstance(rejection, DestinationRefuses):
                raise SiteNotTaken(f"{where} takes no images that {_BRING.format(asked.as_site)}")
            raise rejection
        layer.refuse("an A-ASSOCIATE-RJ with values that PS3.8 does not allow")
    layer.abort()
    hint = "; it may not accept our certificate: let it trust the CA of [tls] certificate" if proposal.tls else ""
    raise DestinationUnavailable(f"{where} did not answer the association request{hint}")


def _connected(proposal: Proposal, where: str) -> socket.socket:
    """Open a connection, with TLS if the proposal has it."""
    local, host = proposal.local, proposal.host
    if proposal.tls and local.tls is None:
        sentence = f"{proposal.called} wants TLS: set ca, certificate and key of [tls] in the settings"
        raise DestinationRefuses(sentence)
    try:
        bare = socket.create_connection((host, proposal.port), local.timing.connect_s)
    except (socket.gaierror, UnicodeError):  # UnicodeError: the name is too long for DNS
        sentence = f"{proposal.called}: the name {host} is not known to DNS; check the host"
        raise DestinationRefuses(sentence) from None
    except OSError as error:
        if error.errno in _NO_SOCKET:
            sentence = f"{proposal.called}: no socket can be opened here ({error.strerror})"
            raise DestinationUnavailable(sentence) from None
        raise _unreachable(where, error, local) from None
    connection = bare
    try:
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proposal.tls and local.tls is not None:
            connection = secured = SecuredSocket(bare, local.tls, host)
            Secured(secured).do_handshake(local.timing.connect_s)
    except ssl.SSLError as error:
        connection.close()
        reason, fix = why_not_trusted(error)
        raise DestinationRefuses(f"{where}: TLS failed, {reason}; {fix}") from None
    except OSError as error:
        connection.close()
        raise _unreachable(where, error, local) from None
    return connection


def _unreachable(where: str, error: OSError, local: LocalAE) -> DestinationUnreachable:
    reason, fix = why_unreachable(error, local.timing.connect_s)
    return DestinationUnreachable(f"{where} cannot be reached: {reason}; {fix}", reason, fix)


@lru_cache(maxsize=_REMEMBERED)
def _encoded(asked: _Asked) -> bytes:
    """Encode the A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title, primitive.called_ae_title = asked.calling, asked.called
    primitive.presentation_context_definition_list = _contexts(asked)
    roles = [build_role(abstract, scu_role=False, scp_role=True) for abstract in asked.as_scp]
    primitive.user_information = [*of_ourselves(asked.maximum_pdu_length), *roles]
    encoded = A_ASSOCIATE_RQ(primitive).encode()
    return with_site(encoded, asked.as_site) if asked.as_site else encoded


def _contexts(asked: _Asked) -> list[PresentationContext]:
    contexts = [build_context(abstract, list(transfer)) for abstract, transfer in asked.contexts]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1  # PS3.8 9.3.2.2
    return contexts


def _acceptance(asked: _Asked, encoded: bytes) -> AcceptedContexts | None:
    """Decode an A-ASSOCIATE-AC, with a cache; None, uncached, when it cannot be decoded."""
    try:
        return _decoded(asked, encoded)
    except Exception:  # noqa: BLE001 - whatever the codec makes of hostile bytes
        return None


@lru_cache(maxsize=_REMEMBERED)
def _decoded(asked: _Asked, acceptance: bytes) -> AcceptedContexts:
    """Decode an A-ASSOCIATE-AC (PS3.8 9.3.3); ignore what was not proposed (PS3.8 9.3.3.2, PS3.7 D.3.3.4)."""
    pdu = A_ASSOCIATE_AC()
    pdu.decode(without_unknown_items(acceptance))
    primitive = pdu.to_primitive()
    results = negotiate_as_requestor(_contexts(asked), primitive.presentation_context_definition_results_list)
    return AcceptedContexts(
        [
            context
            for context, (_, proposed) in zip(results, asked.contexts, strict=True)  # both are in the order of the IDs
            if context.result == 0 and context.transfer_syntax and context.transfer_syntax[0] in proposed
        ],
        {
            str(item.sop_class_uid): bool(item.scp_role)
            for item in primitive.user_information
            if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.sop_class_uid in asked.as_scp
        },
        primitive.maximum_length_received or 0,
        " ".join(filter(None, map(_of_implementation, primitive.user_information))),
        is_answered(acceptance),
    )


def _of_implementation(item: object) -> str:
    """Return the text of a user information item about the peer's implementation; otherwise empty."""
    if isinstance(item, ImplementationClassUIDNotification):
        return str(item.implementation_class_uid or "")
    if isinstance(item, ImplementationVersionNameNotification):
        return str(item.implementation_version_name or "").strip()
    return ""


def _rejection(encoded: bytes, where: str, asked: _Asked) -> DestinationUnavailable | None:
    """Turn an A-ASSOCIATE-RJ into an error (PS3.8 9.3.4); None when its values are not defined."""
    try:
        pdu = A_ASSOCIATE_RJ()
        pdu.decode(encoded)
        said, fix = why_rejected(pdu, asked.calling, asked.called)
    except Exception:  # noqa: BLE001 - whatever the codec makes of hostile bytes
        return None
    is_transient = pdu.result == TRANSIENT
    return (DestinationBusy if is_transient else DestinationRefuses)(
        f"{where} rejected the association ({said}); {fix}"
    )
