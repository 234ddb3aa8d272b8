"""Accept connections, establish their Associations, and serve them."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from backup_scp.dimse.association import negotiation, pending
from backup_scp.dimse.association.acceptance import Acceptance, InvalidRequest, NegotiationCache
from backup_scp.dimse.association.access import AccessPolicy, Caller, peer_of
from backup_scp.dimse.association.admission import counted_for, limit_exceeded, reason_to_reject
from backup_scp.dimse.association.association import Association, AssociationEnded
from backup_scp.dimse.association.association_audit import audit_of
from backup_scp.dimse.association.association_count import SharedCount
from backup_scp.dimse.association.association_threads import ThreadPool
from backup_scp.dimse.association.closing import ClosingConnections
from backup_scp.dimse.association.connection_opening import ConnectionOpening, PeerAddress
from backup_scp.dimse.association.identification import Identification, user_of
from backup_scp.dimse.association.listener import Listener, ListenSettings, open_ports, shut
from backup_scp.dimse.association.negotiation import AssociateReject
from backup_scp.dimse.association.pending import PendingConnections
from backup_scp.dimse.association.rejection_notes import RejectionNotes
from backup_scp.dimse.association.request_dispatch import RequestDispatcher, Service, place_of
from backup_scp.dimse.upper_layer import PeerTimedOut, SecuredSocket
from backup_scp.dimse.upper_layer.association_control import RELEASED
from backup_scp.dimse.upper_layer.tls_socket import proved_names
from backup_scp.dimse.upper_layer.user_identity import apart, with_positive_answer
from backup_scp.ports import RejectionRecorder
from backup_scp.services.audit_reporter import AuditReporter

log = logging.getLogger(__name__)

_LAST_WAIT_S = 1.0
_TOLD_AFTER_S = 60.0


class Server:
    """Accepts connections and serves their Associations.

    Parameters
    ----------
    listening
        Address, AE title and limits.
    policy
        Identifies callers, and tells who may query.
    services
        The services by Command Field.
    rejections
        Records all rejections.
    places
        Counts Associations together with the node's other processes.
    reporter
        Reports what happens to the audit trail.
    identification
        Checks what callers say of their users.
    """

    def __init__(
        self,
        listening: ListenSettings,
        policy: AccessPolicy,
        services: Mapping[int, Service],
        rejections: RejectionRecorder,
        places: SharedCount | None = None,
        reporter: AuditReporter | None = None,
        *,
        identification: Identification | None = None,
    ) -> None:
        self._listening = listening
        self._identification = identification or Identification()
        self._policy = policy
        self._rejections = rejections
        self._dispatcher = RequestDispatcher(services, policy, rejections)
        self._places = places or SharedCount()
        self._reporter = reporter or AuditReporter()
        self._notes = RejectionNotes(rejections, self._reporter)
        self._opening = ConnectionOpening(self._notes)
        self._acceptances = NegotiationCache(listening.maximum_pdu_length)
        self._lock = threading.Lock()
        self._crew = ThreadPool(self._converse, _most_threads(listening))
        self._listeners: list[Listener] = []
        self._pending = PendingConnections()
        self._closing = ClosingConnections()
        self._associations: dict[Association, str] = {}  # with the peer whose limit each counts for
        self._stopping = False

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self, listeners: Sequence[Listener] = ()) -> tuple[int, ...]:
        """Start to accept connections.

        Parameters
        ----------
        listeners
            Open ports; by default this opens the configured ones.

        Returns
        -------
        tuple of int
            The ports: the one without TLS and the one with TLS, those that exist.

        Raises
        ------
        InvalidSettings
            A port cannot be opened; no port accepts connections.
        """
        self._listeners = list(listeners or open_ports(self._listening))
        for listener in self._listeners:
            listener.start(self._take, self._notes.fault)
        return tuple(listener.port for listener in self._listeners)

    @property
    def faults(self) -> int:
        """How many callers were lost through an error in the node."""
        return sum(listener.faults for listener in self._listeners)

    @property
    def is_listening(self) -> bool:
        """Whether every port accepts connections."""
        return all(listener.is_listening for listener in self._listeners)

    def report_received(self) -> None:
        """Report what Associations have received and not told for a minute; they may last for days."""
        with self._lock:
            audits = [association.audit for association in self._associations]
        for audit in audits:
            audit.flush(_TOLD_AFTER_S)

    def use(
        self,
        listening: ListenSettings,
        policy: AccessPolicy,
        services: Mapping[int, Service],
        identification: Identification,
    ) -> tuple[int, ...]:
        """Go on with other settings: new Associations follow them; those that run stay, and stay who they are.

        Returns
        -------
        tuple of int
            The ports.

        Raises
        ------
        InvalidSettings
            A port cannot be opened; nothing has changed.
        """
        before, self._listeners = self._listeners, open_ports(listening, self._listeners)
        self._dispatcher = RequestDispatcher(services, policy, self._rejections)
        self._acceptances = NegotiationCache(listening.maximum_pdu_length)
        self._listening, self._policy, self._identification = listening, policy, identification
        self._crew.allow(_most_threads(listening))
        for listener in self._listeners:
            listener.start(self._take, self._notes.fault)
        for listener in before:
            listener.stop_after_the_last(self._take)
        return tuple(listener.port for listener in self._listeners)

    def stop(self, grace_s: float) -> None:
        """Stop accepting connections, let current requests end within ``grace_s`` seconds, then abort the rest."""
        for listener in self._listeners:
            listener.stop()
        with self._lock:
            self._stopping = True
            pending, under_way = list(self._pending), list(self._associations)
        self._crew.stop()
        for connection in pending:
            shut(connection)
        for association in under_way:
            association.end_when_idle()
        self._crew.join(time.monotonic() + grace_s)
        with self._lock:
            under_way = list(self._associations)
        for association in under_way:
            association.break_off()
        self._crew.join(time.monotonic() + _LAST_WAIT_S)
        self._closing.stop()

    # -- connections -----------------------------------------------------------------------------------------------

    def _take(self, connection: socket.socket, address: str) -> None:
        """Give a connection to a thread; it counts as silent at first, and one of too many silent ones is closed."""
        with self._lock:
            has_to_go = self._pending.add(connection, peer_of(address))
        if has_to_go is not None:
            shut(has_to_go)
        try:
            self._crew.submit(connection)
        except (RuntimeError, MemoryError):  # no thread is free
            self._forget(connection)
            connection.close()
            self._notes.no_thread(address)

    def _converse(self, connection: socket.socket) -> None:
        """Serve one connection from its first byte to its last; no error leaves this function."""
        association = None
        try:
            if (peer := self._opened(connection)) is None:
                return
            association = Association.accept(connection, self._listening.timing)
            association.upper_layer.peer_address = peer.address
            if self._establish(connection, association, is_proxied=peer.is_proxied):
                self._serve(association)
        except OSError:
            log.debug("A connection closed before it sent anything")
        except Exception as error:  # noqa: BLE001 - the last function of this thread: the node continues
            log.error("Association ended through an error in the node: %s", place_of(error))
            if association is not None:
                association.abort()
        finally:
            try:
                if association is not None:
                    association.close()
            finally:  # otherwise the connection would count for ever
                self._forget(connection, association)
                if association is not None and association.farewell:  # last, because the peer may call again at once
                    self._closing.take(connection, association.farewell)
                else:
                    connection.close()

    def _opened(self, connection: socket.socket) -> PeerAddress | None:
        """Open a connection: return where it comes from, past a proxy; None when that was refused."""
        listening = self._listening
        timeout_s = listening.timing.association_s
        found = self._opening.peer_address(connection, listening.proxies, timeout_s)
        if found is not None and found.is_proxied:
            with self._lock:  # it counts for the caller now, not for the proxy
                self._pending.discard(connection)
                has_to_go = self._pending.add(connection, peer_of(found.address))
            if has_to_go is not None:
                shut(has_to_go)
        if found is None or not isinstance(connection, SecuredSocket):
            return found
        return found if self._opening.secure(connection, found.address, timeout_s) else None

    def _forget(self, connection: socket.socket, association: Association | None = None) -> None:
        with self._lock:
            self._pending.discard(connection)
            counted_as = self._associations.pop(association, None) if association is not None else None
            if counted_as is not None:
                self._places.leave(counted_as)

    # -- associations ------------------------------------------------------------------------------------------------

    def _establish(self, connection: socket.socket, association: Association, *, is_proxied: bool) -> bool:
        """Read an Association request, and accept or reject it."""
        layer = association.upper_layer
        offered, request = apart(layer.read_request() or b"")
        acceptance = self._read(association, request) if request else None
        if acceptance is None:
            nobody = self._notes.nobody(layer.peer_address)
            association.audit = audit_of(self._reporter, nobody)
            self._notes.violation(association, nobody, self._listening.reachable_tls_port)
            return False
        called_address, proved = "" if is_proxied else connection.getsockname()[0], partial(proved_names, connection)
        caller = self._policy.identify(acceptance.calling, layer.peer_address, called_address, proved)
        if acceptance.site and caller.remote is not None and acceptance.site in caller.remote.brings_sites:
            caller = replace(caller, as_site=acceptance.site)
        association.caller, association.called_ae_title = caller, acceptance.called
        association.our_ae_title = self._our_ae_title(acceptance.called)
        is_secured = isinstance(connection, SecuredSocket)
        rejection = reason_to_reject(self._listening, self._policy, caller, acceptance, is_secured=is_secured)
        if rejection is None:
            caller, rejection = self._identification.identify(caller, offered, is_secured=is_secured)
            association.caller = caller
        association.audit = audit_of(self._reporter, caller)
        with self._lock:
            rejection = rejection or self._no_place(caller)
            if rejection is None:
                self._pending.discard(connection)
                self._associations[association] = counted_as = counted_for(caller)
                self._places.take(counted_as)
        if rejection is None:
            association.contexts, association.negotiated = acceptance.contexts, acceptance.negotiated
            is_answered = bool(caller.user) and offered is not None and offered.wants_answer
            answer = with_positive_answer(acceptance.answer) if is_answered else acceptance.answer
            layer.accept(answer, acceptance.peer_maximum_length)
            log.debug("Association with %s%s established", caller, user_of(caller))
            association.audit.opened()
            self._notes.accepted(caller, acceptance)
            return True
        self._notes.rejected(association, acceptance.called, rejection)
        association.farewell = layer.part(rejection.result, rejection.source, rejection.diagnostic)
        return False

    def _our_ae_title(self, called: str) -> str:
        """Return our AE title for a caller: the called one, when the settings allow any (PS3.4 C.4.2.3.2)."""
        ours = self._listening
        if called == ours.ae_title or ours.check_called_ae_title:
            return ours.ae_title
        is_one = called.isprintable() and "\\" not in called
        return called if called and is_one else ours.ae_title

    def _read(self, association: Association, request: bytes) -> Acceptance | None:
        """Return the acceptance of an Association request; abort for an invalid request."""
        try:
            return self._acceptances.of(request)
        except InvalidRequest as error:
            association.upper_layer.refuse(str(error))
            return None

    def _no_place(self, caller: Caller) -> AssociateReject | None:
        if self._stopping:
            return negotiation.temporary_congestion()
        return limit_exceeded(self._listening, self._places, caller)

    def _serve(self, association: Association) -> None:
        """Answer requests until the peer ends the Association."""
        began, ending, is_idle = time.monotonic(), "ended by an error here", False
        is_silent = is_released = False
        try:
            while not association.ending:
                is_idle = True
                context_id, command = association.read_command()
                is_idle = False
                self._dispatcher.answer(association, association.contexts[context_id], command)
            association.abort()
            ending = "aborted here, the node stops"
        except PeerTimedOut:
            association.abort()
            ending, is_silent = "aborted here, the peer was silent for too long", True
        except AssociationEnded:
            ending = association.finish()
            is_released = ending == RELEASED
        finally:
            if association.errand is not None:
                association.errand.end()
            self._notes.ended(association, is_released=is_released, is_silent=is_silent, is_idle=is_idle)
            self._notes.violation(association, association.caller, self._listening.reachable_tls_port)
            association.audit.ended(ending)
        who, stored = f"{association.caller}{user_of(association.caller)}", association.tally.summary(began)
        log.info("Association with %s %s: %s (ID %s)", who, ending, stored, association.audit.correlation_id)


def _most_threads(listening: ListenSettings) -> int:
    """Return the limit of threads: one for each allowed Association, and some for connections that begin or end."""
    return listening.maximum_associations + listening.reserved_associations + 2 * pending.MOST
