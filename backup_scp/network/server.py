"""Listens, accepts connections, and gives each Association a thread of its own."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backup_scp.errors import BackupSCPError, InvalidSettings, Refused
from backup_scp.network import negotiation
from backup_scp.network.acceptance import Acceptances
from backup_scp.network.access import AccessPolicy, Caller
from backup_scp.network.association import Association, AssociationEnded, Context, Timing
from backup_scp.network.command_set import CommandSet, Field, response
from backup_scp.network.negotiation import Rejection
from backup_scp.network.status import PROCESSING_FAILURE, SOP_CLASS_NOT_SUPPORTED, UNRECOGNISED_OPERATION, status_of
from backup_scp.network.tls import why_not_secured
from backup_scp.network.upper_layer import PeerTimedOut, Selector

log = logging.getLogger(__name__)

_BACKLOG = 128
_MOST_PENDING = 128  # connections that have not asked for an Association yet
_PAUSE_S = 0.1
_LAST_WAIT_S = 1.0
_REQUEST_BYTES = 65536
_LOCAL_LIMIT_EXCEEDED = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))  # A-ASSOCIATE-RJ, transient: PS3.8 9.3.4
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_LISTENER_IS_SHUT = (errno.EINVAL, errno.EBADF, errno.ENOTSOCK)

Serve = Callable[[Association, Context, CommandSet], None]


@dataclass(frozen=True, slots=True)
class Service:
    """What answers one kind of request.

    Attributes
    ----------
    suits
        Whether an Abstract Syntax is one of its own.
    serve
        Reads the rest of the request and answers it.  An error of ours that it raises is answered for it.
    for_everyone
        Open to all who may associate, not only to those who may query.
    """

    suits: Callable[[str], bool]
    serve: Serve
    for_everyone: bool = False


RecordRejection = Callable[[str, str, str, str, str], None]  # calling, called, address, reason, fix


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the node listens, as whom, and how many it serves at once.

    Attributes
    ----------
    maximum_associations
        For all callers; configured remote AEs and this machine have ``reserved_associations`` more.
    maximum_pdu_length
        Bytes, offered to peers (PS3.8 D.1).
    tls, tls_port
        What the Associations of a second port are secured with; None for no such port.
    """

    ae_title: str
    host: str
    port: int
    check_called_ae_title: bool = True
    maximum_associations: int = 64
    reserved_associations: int = 8
    maximum_pdu_length: int = 131072
    timing: Timing = field(default_factory=Timing)
    tls: ssl.SSLContext | None = None
    tls_port: int = 0


class Server:
    """The node's ear.

    Parameters
    ----------
    listening
        Where, as whom.
    policy
        Who may do what.
    services
        What answers the requests with a Command Field.
    record_rejection
        Told of every Association that is turned away.
    """

    def __init__(
        self,
        listening: Listening,
        policy: AccessPolicy,
        services: Mapping[int, Service],
        record_rejection: RecordRejection,
    ) -> None:
        self._listening = listening
        self._policy = policy
        self._services = services
        self._record_rejection = record_rejection
        self._acceptances = Acceptances(listening.maximum_pdu_length)
        self._lock = threading.Lock()
        self._pending: dict[socket.socket, threading.Thread] = {}
        self._associations: dict[Association, threading.Thread] = {}
        self._listeners: list[tuple[socket.socket, threading.Thread]] = []
        self._stopping = False

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> tuple[int, ...]:
        """Listen; connections are taken from now on.

        Returns
        -------
        tuple of int
            The ports: the plain one, and that with TLS when there is one.

        Raises
        ------
        InvalidSettings
            One cannot be had; neither is listened at.
        """
        ours = self._listening
        wanted = [(ours.port, None)] + ([(ours.tls_port, ours.tls)] if ours.tls is not None else [])
        with contextlib.ExitStack() as opened:
            listeners = [(opened.enter_context(_listener(ours.host, port)), tls) for port, tls in wanted]
            opened.pop_all()
        for listener, tls in listeners:
            thread = threading.Thread(target=self._accept, args=(listener, tls), name="listener", daemon=True)
            self._listeners.append((listener, thread))
            thread.start()
        return tuple(listener.getsockname()[1] for listener, _ in listeners)

    def stop(self, grace_s: float) -> None:
        """Take no more connections, let what is under way end for ``grace_s`` seconds, then abort the rest."""
        for listener, thread in self._listeners:
            _shut(listener)
            listener.close()  # on Windows it is this that wakes ``accept``
            thread.join(_LAST_WAIT_S)
        with self._lock:
            self._stopping = True
            pending = dict(self._pending)
        for connection in pending:
            _shut(connection)
        deadline = time.monotonic() + grace_s
        for association, _ in self._under_way():
            association.end_when_idle()
        for _, thread in self._under_way():
            thread.join(max(deadline - time.monotonic(), 0))
        for association, _ in self._under_way():
            association.break_off()
        deadline = time.monotonic() + _LAST_WAIT_S
        for thread in (*pending.values(), *(thread for _, thread in self._under_way())):
            thread.join(max(deadline - time.monotonic(), 0))

    def _under_way(self) -> list[tuple[Association, threading.Thread]]:
        with self._lock:
            return list(self._associations.items())

    # -- connections -----------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        spare = _Spare()
        while True:
            try:
                _wait_for_caller(listener)  # Linux wants a descriptor for the next caller before there is one
                connection, _ = listener.accept()
            except (OSError, ValueError) as error:
                if listener.fileno() < 0 or not isinstance(error, OSError) or error.errno in _LISTENER_IS_SHUT:
                    spare.close()
                    return
                if error.errno not in _OUT_OF_DESCRIPTORS or not spare.turn_away(listener):
                    time.sleep(_PAUSE_S)  # some will come back
                continue
            spare.refill()
            if tls is not None:
                try:  # the handshake is for its own thread
                    connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                except OSError:  # it is gone already
                    connection.close()
                    continue
            thread = threading.Thread(target=self._converse, args=(connection,), name="association", daemon=True)
            self._admit(connection, thread)
            try:
                thread.start()
            except RuntimeError:  # out of threads: some will end
                self._forget(connection)
                connection.close()

    def _admit(self, connection: socket.socket, thread: threading.Thread) -> None:
        """Count a connection that has said nothing yet; when there are too many, the oldest goes."""
        with self._lock:
            self._pending[connection] = thread
            if len(self._pending) > _MOST_PENDING:
                oldest = next(iter(self._pending))
                del self._pending[oldest]
                _shut(oldest)

    def _converse(self, connection: socket.socket) -> None:
        """Serve one connection from its first byte to its last; the border of this thread."""
        association = None
        try:
            if isinstance(connection, ssl.SSLSocket) and not self._secure(connection):
                return
            association = Association.accept(connection, self._listening.timing)
            if self._establish(connection, association):
                self._serve(association)
        except OSError:
            log.debug("A connection was gone before it said anything")
        except Exception as error:  # noqa: BLE001 - the border of this thread: the node goes on
            log.error("Association ended by an error in the node: %s", _where(error))
            if association is not None:
                association.abort()
        finally:
            if association is not None:
                association.close()
            connection.close()
            self._forget(connection, association)

    def _secure(self, connection: ssl.SSLSocket) -> bool:
        """Shake hands; what it failed of is noted, for the person who sets the peer up."""
        connection.settimeout(self._listening.timing.association_s)
        try:
            connection.do_handshake()
        except ssl.SSLError as error:
            address = connection.getpeername()[0]
            reason, fix = why_not_secured(error)
            log.warning("TLS with %s failed: %s; %s", address, reason, fix)
            self._note(Caller("", address, None, is_this_machine=False), "", reason, fix)
            return False
        return True

    def _forget(self, connection: socket.socket, association: Association | None = None) -> None:
        with self._lock:
            self._pending.pop(connection, None)
            if association is not None:
                self._associations.pop(association, None)

    # -- associations ------------------------------------------------------------------------------------------------

    def _establish(self, connection: socket.socket, association: Association) -> bool:
        """Read an Association request, and accept or reject it."""
        layer = association.upper_layer
        request = layer.read_request(self._listening.timing.association_s)
        if request is None:
            return False
        acceptance = self._acceptances.of(request)
        if acceptance is None:
            layer.refer(request)
            return False
        caller = self._policy.identify(acceptance.calling, layer.peer_address, connection.getsockname()[0])
        association.caller, association.called_ae_title = caller, acceptance.called
        with self._lock:
            rejection = self._reason_to_reject(caller, acceptance.called)
            if rejection is None:
                self._pending.pop(connection, None)
                self._associations[association] = threading.current_thread()
        if rejection is None:
            association.contexts, association.negotiated = acceptance.contexts, acceptance.negotiated
            layer.accept(acceptance.answer, acceptance.peer_maximum_length)
            log.debug("Association with %s established", caller)
            return True
        log.warning("Association from %s rejected: %s; %s", caller, rejection.reason, rejection.fix)
        layer.reject(rejection.result, rejection.source, rejection.diagnostic)
        self._note(caller, acceptance.called, rejection.reason, rejection.fix)
        return False

    def _reason_to_reject(self, caller: Caller, called: str) -> Rejection | None:
        ours = self._listening
        if self._stopping:
            return negotiation.temporary_congestion()
        if not caller.ae_title.isprintable():
            return negotiation.calling_ae_title_not_recognised(caller.ae_title)
        if ours.check_called_ae_title and called != ours.ae_title:
            return negotiation.called_ae_title_not_recognised(called, ours.ae_title)
        limit = ours.maximum_associations + (ours.reserved_associations if caller.is_known else 0)
        if len(self._associations) >= limit:
            return negotiation.local_limit_exceeded(limit)
        return None

    def _note(self, caller: Caller, called: str, reason: str, fix: str) -> None:
        try:
            self._record_rejection(caller.ae_title, called, caller.address, reason, fix)
        except BackupSCPError as error:
            log.warning("A rejection could not be recorded: %s", error)

    def _serve(self, association: Association) -> None:
        """Answer requests until the peer ends the Association."""
        began = time.monotonic()
        try:
            while not association.ending:
                context_id, command = association.read_command()
                self._answer(association, association.contexts[context_id], command)
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
        log.info("Association with %s %s: %s", association.caller, ending, association.tally.summary(began))

    def _answer(self, association: Association, context: Context, command: CommandSet) -> None:
        service = self._services.get(command.field)
        if command.field == Field.C_CANCEL_RQ or (command.is_response and service is None):
            association.skip_data_set()  # for an operation that has ended already
            return
        if service is None or not service.suits(context.abstract_syntax):
            association.skip_data_set()
            status = UNRECOGNISED_OPERATION if service is None else SOP_CLASS_NOT_SUPPORTED
            association.send(context.context_id, response(command, status))
            return
        try:
            if not service.for_everyone:
                self._policy.require_query(association.caller)
            service.serve(association, context, command)
        except AssociationEnded:
            raise
        except BackupSCPError as error:
            self._refuse(association, context, command, error)
        except Exception as error:  # noqa: BLE001 - one request failed; the peer must hear of it, and others go on
            log.error("A request of %s failed by an error in the node: %s", association.caller, _where(error))
            association.skip_data_set()
            association.send(context.context_id, response(command, PROCESSING_FAILURE, comment="Internal error"))

    def _refuse(self, association: Association, context: Context, command: CommandSet, error: BackupSCPError) -> None:
        """Answer a request that ended with an error of ours; what a setting here would change is noted."""
        association.skip_data_set()
        association.tally.refused += 1
        log.warning("%s of %s refused: %s", Field(command.field).name, association.caller, error)
        association.send(context.context_id, response(command, status_of(error), comment=str(error)))
        if isinstance(error, Refused) and error.fix:
            self._note(association.caller, association.called_ae_title, str(error), error.fix)


def _listener(host: str, port: int) -> socket.socket:
    dual = host == "::" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidSettings(
            f"Port {port} on {host} cannot be had ({reason}): is a node running already? Else set another one"
        ) from None


def _wait_for_caller(listener: socket.socket) -> None:
    with Selector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.select()


class _Spare:
    """A descriptor kept for the moment when there is no other: whoever calls then hears so, and is not left waiting."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.refill()

    def refill(self) -> None:
        """Take one when there are some again."""
        self._is_short = False
        self._open()

    def turn_away(self, listener: socket.socket) -> bool:
        """Give it up for one caller, who is rejected; say whether there was one."""
        if self._descriptor is None:
            return False
        self.close()
        if not self._is_short:
            log.error("No descriptor is left: callers are rejected until one is; raise LimitNOFILE (ulimit -n)")
        self._is_short = True
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_LAST_WAIT_S)
                connection.recv(_REQUEST_BYTES)  # what is not read at the close would undo the answer
                connection.sendall(_LOCAL_LIMIT_EXCEEDED)
        self._open()
        return True

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._descriptor = os.open(os.devnull, os.O_RDONLY)


def _shut(connection: socket.socket) -> None:
    """Wake whoever waits for a socket; its own thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _where(error: Exception) -> str:
    """Name an error and its place, without its text: that may hold patient data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames[-6:]))
