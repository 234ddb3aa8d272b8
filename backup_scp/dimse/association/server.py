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
from backup_scp.dimse.association.access import AccessPolicy, Caller, peer_of, plain_address
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
from backup_scp.dimse.association.request_dispatch import RequestDispatcher, Service, note_rejection, place_of
from backup_scp.dimse.upper_layer import PeerTimedOut, SecuredSocket
from backup_scp.dimse.upper_layer.tls_socket import proved_names
from backup_scp.dimse.upper_layer.user_identity import apart, with_positive_answer
from backup_scp.ports import RejectionRecorder, ServiceKind
from backup_scp.services.audit_reporter import AuditReporter

log = logging.getLogger(__name__)

_LAST_WAIT_S = 1.0
_TOLD_AFTER_S = 60.0
_FIX_OF_VIOLATION = "compare its settings with host and port of this node; if they are right, report it to its maker"
_NO_THREAD = ("no thread is free to serve it", "raise the limits on threads and memory that the system sets the node")


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
        self._opening = ConnectionOpening(rejections, self._reporter)
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
            listener.start(self._take, self._note_fault)
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
            listener.start(self._take, self._note_fault)
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
            caller = Caller("", plain_address(address), None, is_this_machine=False)
            level = note_rejection(self._rejections, ServiceKind.ASSOCIATION, caller, "", *_NO_THREAD)
            log.log(level, "A caller at %s was rejected: %s; %s", caller.address, *_NO_THREAD)

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

    def _note_fault(self, error: str) -> None:
        """Record for ``status`` that a caller was lost."""
        reason = f"it was lost through an error in the node ({error})"
        fix = "check the log of the node, and its memory"
        self._rejections.rejected(ServiceKind.ASSOCIATION, "", "", "an unknown address", reason, fix)

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
            nobody = Caller("", plain_address(layer.peer_address), None, is_this_machine=False)
            association.audit = audit_of(self._reporter, nobody)
            self._note_violation(association, nobody)
            return False
        called_address, proved = "" if is_proxied else connection.getsockname()[0], partial(proved_names, connection)
        caller = self._policy.identify(acceptance.calling, layer.peer_address, called_address, proved)
        if acceptance.site and caller.remote is not None and acceptance.site in caller.remote.brings_sites:
            caller = replace(caller, as_site=acceptance.site)
        association.caller, association.called_ae_title = caller, acceptance.called
        association.our_ae_title = self._our_ae_title(acceptance.called)
        is_secured = isinstance(connection, SecuredSocket)
        rejection = self._reason_to_reject(caller, acceptance, is_secured=is_secured)
        if rejection is None:
            caller, rejection = self._identification.identify(caller, offered, is_secured=is_secured)
            association.caller = caller
        association.audit = audit_of(self._reporter, caller)
        with self._lock:
            rejection = rejection or self._limit_exceeded(caller)
            if rejection is None:
                self._pending.discard(connection)
                self._associations[association] = counted_as = _counted_as(caller)
                self._places.take(counted_as)
        if rejection is None:
            association.contexts, association.negotiated = acceptance.contexts, acceptance.negotiated
            is_answered = bool(caller.user) and offered is not None and offered.wants_answer
            answer = with_positive_answer(acceptance.answer) if is_answered else acceptance.answer
            layer.accept(answer, acceptance.peer_maximum_length)
            log.debug("Association with %s%s established", caller, user_of(caller))
            association.audit.opened()
            self._rejections.succeeded(ServiceKind.ASSOCIATION, caller.ae_title, caller.address)
            for oddity in acceptance.oddities:
                log.info("%s proposes %s; accepted nevertheless", caller, oddity)
            return True
        level = note_rejection(
            self._rejections, ServiceKind.ASSOCIATION, caller, acceptance.called, rejection.reason, rejection.fix
        )
        log.log(level, "Association from %s rejected: %s; %s", caller, rejection.reason, rejection.fix)
        if level > logging.DEBUG:  # a flood of the same is counted for ``status``, and not written
            association.audit.rejected(rejection.reason)
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

    def _reason_to_reject(self, caller: Caller, asked: Acceptance, *, is_secured: bool) -> AssociateReject | None:
        ours, called = self._listening, asked.called
        if not asked.protocol_version & 1:
            return negotiation.protocol_version_not_supported(asked.protocol_version)
        if not caller.ae_title or not caller.ae_title.isprintable():
            return negotiation.calling_ae_title_not_recognised(caller.ae_title)
        if ours.check_called_ae_title and called != ours.ae_title:
            return negotiation.called_ae_title_not_recognised(called, ours.ae_title)
        return self._not_as_configured(caller, asked, is_secured=is_secured)

    def _not_as_configured(self, caller: Caller, asked: Acceptance, *, is_secured: bool) -> AssociateReject | None:
        meant = caller.remote or caller.mismatch
        if meant is not None and meant.tls_required and not is_secured:
            return negotiation.tls_required(meant.name, self._listening.tls_port)
        if caller.is_refused:
            return negotiation.stranger_refused(self._policy.fix_of_stranger(caller))
        if asked.site != caller.as_site:
            return negotiation.site_not_brought(asked.site, caller.remote.name if caller.remote else "")
        return None

    def _limit_exceeded(self, caller: Caller) -> AssociateReject | None:
        if self._stopping:
            return negotiation.temporary_congestion()
        ours, is_known = self._listening, caller.is_known
        limit = ours.maximum_associations + (ours.reserved_associations if is_known else 0)
        if self._places.total >= limit:
            return negotiation.local_limit_exceeded(limit)
        most = ours.maximum_associations_per_address
        if most and not is_known and self._places.taken_by(peer_of(caller.address)) >= most:
            return negotiation.limit_of_one_address_exceeded(most)
        return None

    def _note_violation(self, association: Association, caller: Caller) -> None:
        """Record the caller and the violation for which an Association was aborted."""
        if violation := association.upper_layer.violation:
            called, reason = association.called_ae_title, f"it sent {violation}"
            level = note_rejection(self._rejections, ServiceKind.ASSOCIATION, caller, called, reason, _FIX_OF_VIOLATION)
            if level > logging.DEBUG:
                association.audit.rejected(reason)

    def _serve(self, association: Association) -> None:
        """Answer requests until the peer ends the Association."""
        began, ending = time.monotonic(), "ended by an error here"
        try:
            while not association.ending:
                context_id, command = association.read_command()
                self._dispatcher.answer(association, association.contexts[context_id], command)
            association.abort()
            ending = "aborted here, the node stops"
        except PeerTimedOut:
            association.abort()
            ending = "aborted here, the peer was silent for too long"
        except AssociationEnded:
            ending = association.finish()
        finally:
            if association.errand is not None:
                association.errand.end()
            tally, caller = association.tally, association.caller
            if (tally.stored or tally.held) and not tally.refused_to_store:
                self._rejections.succeeded(ServiceKind.STORE, caller.ae_title, caller.address)
            if association.upper_layer.violation:
                self._note_violation(association, caller)
            association.audit.ended(ending)
        who, stored = f"{caller}{user_of(caller)}", association.tally.summary(began)
        log.info("Association with %s %s: %s (ID %s)", who, ending, stored, association.audit.correlation_id)


def _counted_as(caller: Caller) -> str:
    """Return the peer whose limit an Association counts for; empty for a known caller, which has no such limit."""
    return "" if caller.is_known else peer_of(caller.address)


def _most_threads(listening: ListenSettings) -> int:
    """Return the limit of threads: one for each allowed Association, and some for connections that begin or end."""
    return listening.maximum_associations + listening.reserved_associations + 2 * pending.MOST
