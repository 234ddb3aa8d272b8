"""One Association, in either role: pynetdicom negotiates it, its messages are read and written here (PS3.7 8)."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from pydicom.config import IGNORE, settings
from pydicom.uid import UID
from pynetdicom import AE, _config, build_role
from pynetdicom._globals import MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.association import Association as PynetdicomAssociation
from pynetdicom.pdu_primitives import A_ABORT, A_RELEASE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation

from backup_scp.errors import (
    DestinationBusy,
    DestinationUnavailable,
    InvalidDataSet,
    InvalidIdentifier,
    NothingAccepted,
)
from backup_scp.information_model import Negotiated
from backup_scp.network.access import Caller
from backup_scp.network.command_set import CommandSet, Element, Field
from backup_scp.network.upper_layer import AssociationEnded, Interrupted, PeerTimedOut, Transport, UpperLayer
from backup_scp.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

# pynetdicom's own log prints identifiers and pydicom's warnings print values: both are patient data.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
_config.LOG_HANDLER_LEVEL = "none"
settings.reading_validation_mode = IGNORE
# Identity never blocks: UIDs of any length, AE titles padded with NUL or with an umlaut; ``server`` judges the rest.
_config.VALIDATORS = {"AE": lambda _: (True, ""), "UI": lambda _: (True, "")}
_config.CODECS = ("ascii", "latin-1")

_LONGEST_COMMAND_SET = 1 << 16
_LONGEST_IDENTIFIER = 1 << 20
_LINGER_S = 5.0
_REJECTED_TRANSIENT = 2  # PS3.8 9.3.4
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the network may take.

    Attributes
    ----------
    connect_s
        TCP connection of our own associations.
    association_s
        ARTIM (PS3.8 9.1.5), and the answer to our own association requests.
    idle_s
        A peer that says nothing between messages.
    network_s
        A peer that stops in the middle of a message, or does not answer one.
    busy_s
        A remote AE that takes no further association for the moment.
    """

    connect_s: float = 10.0
    association_s: float = 30.0
    idle_s: float = 600.0
    network_s: float = 60.0
    busy_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted Presentation Context (PS3.8 9.3.3.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    peer_is_scp: bool = False


@dataclass(slots=True)
class Tally:
    """What an Association has brought."""

    stored: int = 0
    held: int = 0
    refused: int = 0
    size_bytes: int = 0

    def summary(self, began: float) -> str:
        """One line for the log; ``began`` is of the monotonic clock."""
        return (
            f"{self.stored} stored, {self.held} already held, {self.refused} refused, "
            f"{self.size_bytes / 1e6:.1f} MB in {time.monotonic() - began:.1f} s"
        )


class Errand(Protocol):
    """What is done on an Association while its peer asks for nothing."""

    def look(self) -> None:
        """Do what is due; asked for again and again between two requests, it may send a request of ours."""

    def end(self) -> None:
        """Give up what is not done: the Association has ended."""


class Association(PynetdicomAssociation):
    """An Association with one thread: whoever calls its methods.

    Attributes
    ----------
    contexts
        Accepted Presentation Contexts by ID.
    negotiated
        What SOP Class Extended Negotiation has settled, by SOP Class UID.
    caller, called_ae_title
        Of an incoming one: who calls, and whom.
    tally
        What it has brought so far.
    ending
        True when the node stops: no further request will be read.
    errand
        What is done meanwhile, if anything.
    """

    caller: Caller
    called_ae_title: str

    def __init__(self, ae_title: str, mode: str, timing: Timing, maximum_pdu_length: int) -> None:
        ae = AE(ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        super().__init__(ae, mode)
        self.upper_layer = UpperLayer(self)
        self.upper_layer.network_timeout_s = timing.network_s
        self.upper_layer.idle_timeout_s = timing.idle_s
        self.dul = self.upper_layer
        self.acse_timeout = timing.association_s
        self.connection_timeout = timing.connect_s
        self.contexts: dict[int, Context] = {}
        self.negotiated: dict[str, Negotiated] = {}
        local = self.requestor if self.is_requestor else self.acceptor
        local.maximum_length = maximum_pdu_length
        local.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        local.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        local.ae_title = ae_title
        self.tally = Tally()
        self.ending = False
        self.errand: Errand | None = None
        self._waiting = False
        self._ahead: tuple[int, CommandSet] | None = None
        self._data_set_of: int | None = None  # context ID, while a Data Set is still to be read
        self._cancelled: set[int] = set()

    # -- establishing ----------------------------------------------------------------------------------------------

    @classmethod
    def accept(cls, connection: socket.socket, ae_title: str, timing: Timing, maximum_pdu_length: int) -> Association:
        """Take up an incoming connection; ``negotiation.negotiate`` goes on from here."""
        association = cls(ae_title, MODE_ACCEPTOR, timing, maximum_pdu_length)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association.acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        association.requestor.address_info = AddressInformation.from_tuple(connection.getpeername())
        association.set_socket(Transport(association, client_socket=connection))
        association.upper_layer.begin()
        return association

    @classmethod
    def request_from(  # noqa: PLR0913 - each by its name
        cls,
        *,
        calling: str,
        called: str,
        host: str,
        port: int,
        contexts: Iterable[tuple[str, Iterable[str]]],
        timing: Timing,
        maximum_pdu_length: int = 131072,
        watch: Callable[[], None] | None = None,
        as_scp: Iterable[str] = (),
    ) -> Association:
        """Open an Association to a remote AE.

        Parameters
        ----------
        contexts
            Abstract Syntax and its Transfer Syntaxes; at most 128.
        as_scp
            Abstract Syntaxes for which we, the requestor, propose to be the SCP (PS3.7 D.3.3.4).
        watch
            See ``UpperLayer``.

        Raises
        ------
        DestinationUnavailable
            With the reason, and what to look at.
        Interrupted
            By ``watch``.
        """
        association = cls(calling, MODE_REQUESTOR, timing, maximum_pdu_length)
        requested = [build_context(abstract, list(transfer)) for abstract, transfer in contexts]
        for number, context in enumerate(requested):
            context.context_id = 2 * number + 1
        try:
            remote = AddressInformation(host, port)
        except (OSError, UnicodeError):  # a name may be too long for DNS
            raise DestinationUnavailable(f"{called}: the name {host} is not known to DNS; check the host") from None
        local = AddressInformation.from_tuple(("", 0) if remote.is_ipv4 else ("::", 0))
        try:
            association.set_socket(Transport(association, address=local))
        except OSError as error:
            raise DestinationUnavailable(f"{called}: no socket for it can be had here ({error.strerror})") from None
        cast("socket.socket", association.upper_layer.connection).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association.acceptor.ae_title = called
        association.acceptor.address_info = remote
        association.requestor.address_info = local
        association.requestor.requested_contexts = requested
        for abstract in as_scp:
            association.requestor.add_negotiation_item(build_role(abstract, scu_role=False, scp_role=True))
        association.upper_layer.watch = watch
        try:
            association.request()
        except Interrupted:
            association.abort(block=False)
            raise
        association._require_established(called, host, port)
        association.take_contexts(association.accepted_contexts)
        return association

    def _require_established(self, called: str, host: str, port: int) -> None:
        if self.is_established:
            return
        error = self._why_not_established(f"{called} at {host}:{port}")
        self.close()
        raise error

    def _why_not_established(self, where: str) -> DestinationUnavailable:
        answer = self.acceptor.primitive
        if self.is_rejected and answer is not None:
            rejected = f"{where} rejected the association ({answer.result_str}: {answer.reason_str})"
            if answer.result == _REJECTED_TRANSIENT:
                return DestinationBusy(f"{rejected}; try again later")
            return DestinationUnavailable(f"{rejected}; check both AE titles there")
        if self.rejected_contexts:
            return NothingAccepted(f"{where} accepts none of the SOP Classes and Transfer Syntaxes")
        if self.upper_layer.connected:
            return DestinationUnavailable(f"{where} did not answer the association request")
        return DestinationUnavailable(f"{where} cannot be reached; check host, port and that machine's firewall")

    def take_contexts(self, accepted: Iterable[PresentationContext]) -> None:
        """Note what was negotiated."""
        roles = self.requestor.role_selection if self.is_acceptor else {}
        for context in accepted:
            context_id, abstract = cast("int", context.context_id), cast("UID", context.abstract_syntax)
            role = roles.get(abstract)
            peer_is_scp = self.is_requestor or bool(role and role.scp_role)
            self.contexts[context_id] = Context(
                context_id, str(abstract), str(context.transfer_syntax[0]), peer_is_scp=peer_is_scp
            )

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_command(self) -> tuple[int, CommandSet]:
        """Read the next Command Set and the ID of its Presentation Context.

        Raises
        ------
        AssociationEnded
            Released, aborted, or gone.
        """
        self._waiting = self._ahead is None
        try:
            if self._waiting and self.ending:
                raise AssociationEnded
            if self._waiting and self.errand is not None:
                self._wait_busily(self.errand)
            return self._next_command()
        finally:
            self._waiting = False

    def _wait_busily(self, errand: Errand) -> None:
        """Wait for the peer's next word, and do something else meanwhile."""
        deadline = time.monotonic() + self.upper_layer.idle_timeout_s
        while not self.upper_layer.has_input(_LOOK_S):
            if time.monotonic() > deadline:
                raise PeerTimedOut
            errand.look()

    def _next_command(self, *, is_due: bool = False) -> tuple[int, CommandSet]:
        """Take the next message; one that ``is_due`` answers us, and its sender may not idle."""
        context_id, command = self._ahead or self._read_command(is_due=is_due)
        self._ahead = None
        self._data_set_of = context_id if command.has_data_set else None
        return context_id, command

    def _read_command(self, *, is_due: bool = False) -> tuple[int, CommandSet]:
        encoded = bytearray()
        context_id = None
        while True:
            fragment = self.upper_layer.read_fragment(between_messages=context_id is None and not is_due)
            context_id = fragment.context_id if context_id is None else context_id
            encoded += fragment.data
            if not fragment.is_command:
                self.upper_layer.reject_pdu("a Data Set where a Command Set is due")
            if fragment.context_id != context_id or context_id not in self.contexts:
                self.upper_layer.reject_pdu("a message in a Presentation Context that was not accepted, or in two")
            if len(encoded) > _LONGEST_COMMAND_SET:
                self.upper_layer.reject_pdu("a Command Set without end")
            if fragment.is_last:
                break
        try:
            return context_id, CommandSet.decode(encoded)
        except InvalidDataSet:
            self.upper_layer.reject_pdu("a Command Set that cannot be decoded")

    def data_set(self) -> Iterator[memoryview]:
        """Read the Data Set that follows a Command Set, in parts that are valid until the next one.

        Raises
        ------
        AssociationEnded
            It will not be completed.
        """
        while self._data_set_of is not None:
            fragment = self.upper_layer.read_fragment()
            if fragment.is_command or fragment.context_id != self._data_set_of:
                self.upper_layer.reject_pdu("something else where a Data Set is due")
            if fragment.is_last:
                self._data_set_of = None
            yield fragment.data

    def read_identifier(self, limit_bytes: int = _LONGEST_IDENTIFIER) -> bytes:
        """Read a Data Set that must fit in memory.

        Raises
        ------
        InvalidIdentifier
            It is absurdly long; it has been read to its end.
        """
        encoded, size = bytearray(), 0
        for data in self.data_set():
            size += len(data)
            if size <= limit_bytes:
                encoded += data
        if size > limit_bytes:
            raise InvalidIdentifier(f"The Identifier has {size} bytes")
        return bytes(encoded)

    def skip_data_set(self) -> None:
        """Read past what is still to come of a Data Set, so that the next message is found."""
        for _ in self.data_set():
            pass

    def read_response(self, field: Field) -> CommandSet:
        """Read the response to a request of ours; a C-CANCEL that comes before it is noted (PS3.7 9.3.2.3)."""
        while True:
            _, command = self._next_command(is_due=True)
            if command.field == Field.C_CANCEL_RQ:
                self._cancelled.add(command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO))
                continue
            if command.field != field:
                self.upper_layer.reject_pdu(f"a message with Command Field 0x{command.field:04X} for a response")
            self.skip_data_set()
            return command

    def cancelled(self, message_id: int) -> bool:
        """Whether the peer has cancelled the operation ``message_id``; does not wait.

        Raises
        ------
        AssociationEnded
            The peer is gone, and nobody waits for the rest.
        """
        while message_id not in self._cancelled and self._ahead is None and self.upper_layer.has_input():
            context_id, command = self._read_command()
            if command.field == Field.C_CANCEL_RQ:
                self._cancelled.add(command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO))
            else:
                self._ahead = (context_id, command)  # early, but not lost
        return message_id in self._cancelled

    def forget_cancelled(self) -> None:
        """Start a new operation: Message IDs may be used again."""
        self._cancelled.clear()

    # -- writing -----------------------------------------------------------------------------------------------------

    def send(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send one message whose Data Set, if any, fits in memory."""
        self.upper_layer.send_message(context_id, command, data)

    def send_data_set(self, context_id: int, command: bytes, parts: Iterable[bytes]) -> None:
        """Send one message whose Data Set comes in parts; memory is flat."""
        self.upper_layer.send_data_set(context_id, command, parts)

    # -- ending ------------------------------------------------------------------------------------------------------

    def end_when_idle(self) -> None:
        """From another thread: end as soon as the request under way has been answered."""
        self.ending = True
        if self._waiting:
            self._shut(socket.SHUT_RD)

    def break_off(self) -> None:
        """From another thread: end at once."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        connection = self.upper_layer.connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(how)

    def finish(self) -> str:
        """End what reading has found to be ending, and say how."""
        primitive = self.upper_layer.receive_pdu()
        if isinstance(primitive, A_RELEASE) and primitive.result is None:
            self.acse.send_release(is_response=True)
            how = "released"
        elif isinstance(primitive, A_ABORT):
            how = "aborted by the peer"
        else:
            how = "aborted here, the peer broke the protocol" if self.upper_layer.is_over else "lost"
        self.upper_layer.linger(_LINGER_S)
        return how

    def release(self) -> None:
        """Release an Association of ours; if the peer does not answer, abort it."""
        self.upper_layer.watch = None
        if self.is_established and self.upper_layer.is_open:
            self.acse.negotiate_release()
        self.close()

    def abort(self, block: bool = True) -> None:  # noqa: FBT001, FBT002 - pynetdicom's signature
        """Abort: the peer is told, and the connection closed; ``block`` lets the peer close first, for a moment."""
        self.upper_layer.watch = None
        if self.upper_layer.is_open and not self.upper_layer.is_over:
            self.acse.send_abort(0x00)
        self.upper_layer.linger(_LINGER_S if block else 0.0)

    def close(self) -> None:
        """Let the peer close first, for a moment, then close."""
        self.upper_layer.linger(_LINGER_S)


__all__ = ["Association", "AssociationEnded", "Context", "Interrupted", "Tally", "Timing"]
