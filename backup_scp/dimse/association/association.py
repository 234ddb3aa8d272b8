"""Read and write the messages of one Association, in either role (PS3.7 8)."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from backup_scp.dicom.query.information_model import Negotiated
from backup_scp.dimse.association.access import Caller
from backup_scp.dimse.association.association_audit import SILENT, AssociationAudit
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field
from backup_scp.dimse.upper_layer import AssociationEnded, Interrupted, LocalAE, PeerTimedOut, Timing, UpperLayer
from backup_scp.dimse.upper_layer.p_data import Piece
from backup_scp.dimse.upper_layer.requestor import Proposal, request
from backup_scp.errors import InvalidDataSet, InvalidIdentifier

log = logging.getLogger(__name__)

_LONGEST_COMMAND_SET = 1 << 16
_LONGEST_IDENTIFIER = 1 << 20
_LOOK_S = 0.2


class InvalidResponse(AssociationEnded):
    """The peer sent an invalid response to our request; the Association was aborted.

    The text ends a sentence that begins with "it sent".
    """


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted Presentation Context (PS3.8 9.3.3.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    peer_is_scp: bool = False


@dataclass(slots=True)
class AssociationStats:
    """Counts of what an Association has stored."""

    stored: int = 0
    held: int = 0
    refused: int = 0
    refused_to_store: bool = False
    size_bytes: int = 0

    def summary(self, began: float) -> str:
        """Return a line for the log; ``began`` is a time of the monotonic clock."""
        return (
            f"{self.stored} stored, {self.held} already held, {self.refused} refused, "
            f"{self.size_bytes / 1e6:.1f} MB in {time.monotonic() - began:.1f} s"
        )


class IdleTask(Protocol):
    """Work polled on an idle Association, between two requests."""

    def poll(self) -> None:
        """Do what is due; called repeatedly between two requests, it may send a request of ours."""

    def end(self) -> None:
        """Give up unfinished work, because the Association has ended."""


class Association:
    """An Association, used by one thread; another thread may only ``send`` between two messages.

    Attributes
    ----------
    upper_layer
        Its connection and state.
    contexts
        Accepted Presentation Contexts by ID.
    negotiated
        Result of SOP Class Extended Negotiation, by SOP Class UID.
    we_are_scp
        As requestor: whether the peer accepts us as SCP, by SOP Class UID; no entry when it did not answer.
    implementation
        As requestor: the peer's Implementation Class UID and Version Name (PS3.7 D.3.3.2), in one text.
    caller, called_ae_title
        The caller, and the AE title that it called.
    our_ae_title
        As acceptor: our AE title for this caller.
    guard
        Held while a message is read or written.
    tally
        Counts of what it has stored so far.
    ending
        True when the node stops, so that no further request is read.
    errand
        The idle task, if there is one.
    audit
        Reports what happens on it.
    farewell
        The A-ASSOCIATE-RJ that remains to be sent, if the Association was rejected.
    """

    caller: Caller

    def __init__(self, upper_layer: UpperLayer) -> None:
        self.upper_layer = upper_layer
        self.contexts: Mapping[int, Context] = {}
        self.negotiated: Mapping[str, Negotiated] = {}
        self.we_are_scp: Mapping[str, bool] = {}
        self.implementation = ""
        self.called_ae_title = self.our_ae_title = ""
        self.guard = threading.RLock()
        self.tally = AssociationStats()
        self.ending = False
        self.errand: IdleTask | None = None
        self.audit: AssociationAudit = SILENT
        self.farewell = b""
        self._waiting = False
        self._ahead: tuple[int, CommandSet] | None = None
        self._data_set_of: int | None = None  # context ID of a Data Set that has not been read to its end
        self._cancelled: set[int] = set()

    # -- establishing ----------------------------------------------------------------------------------------------

    @classmethod
    def accept(cls, connection: socket.socket, timing: Timing) -> Association:
        """Wrap an incoming connection; ``Server`` establishes the Association."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(UpperLayer(connection, timing, connection.getpeername()[0]))

    @classmethod
    def request_from(  # noqa: PLR0913 - each by its name
        cls,
        *,
        local: LocalAE,
        called: str,
        host: str,
        port: int,
        contexts: Iterable[tuple[str, Iterable[str]]],
        tls: bool = False,
        maximum_pdu_length: int = 131072,
        watch: Callable[[], None] | None = None,
        as_scp: Iterable[str] = (),
    ) -> Association:
        """Open an Association to a remote AE: see ``Proposal``.

        Raises
        ------
        DestinationUnavailable
            The text has the reason and what to check.
        Interrupted
            Raised by ``watch``.
        """
        proposal = Proposal(local, called, host, port, contexts, as_scp, maximum_pdu_length, tls=tls)
        upper_layer, answer = request(proposal, watch)
        association = cls(upper_layer)
        association.called_ae_title = called
        association.we_are_scp = answer.we_are_scp
        association.implementation = answer.implementation
        association.contexts = {
            int(context.context_id or 0): Context(
                int(context.context_id or 0),
                str(context.abstract_syntax),
                str(context.transfer_syntax[0]),
                peer_is_scp=True,
            )
            for context in answer.contexts
        }
        return association

    @property
    def is_established(self) -> bool:
        """Whether messages can be sent."""
        return self.upper_layer.is_established

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_command(self) -> tuple[int, CommandSet]:
        """Read the next Command Set and the ID of its Presentation Context.

        Raises
        ------
        AssociationEnded
            The Association was released, aborted or lost.
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

    def _wait_busily(self, errand: IdleTask) -> None:
        """Wait for the peer's next message, and poll the idle task meanwhile."""
        deadline = time.monotonic() + self.upper_layer.idle_timeout_s
        while not self.upper_layer.has_input(_LOOK_S):
            if time.monotonic() > deadline:
                raise PeerTimedOut
            errand.poll()

    def _next_command(self, *, is_due: bool = False) -> tuple[int, CommandSet]:
        """Read the next Command Set; with ``is_due`` the peer owes us an answer, so a shorter limit applies."""
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
            if fragment.context_id != context_id:
                both = f"{context_id} and {fragment.context_id}"
                self.upper_layer.reject_pdu(f"a message in two Presentation Contexts, {both}")
            if context_id not in self.contexts:
                self.upper_layer.reject_pdu(f"a message in Presentation Context {context_id}, which was not accepted")
            if len(encoded) > _LONGEST_COMMAND_SET:
                self.upper_layer.reject_pdu("a Command Set without end")
            if fragment.is_last:
                break
        try:
            return context_id, CommandSet.decode(encoded)
        except InvalidDataSet:
            self.upper_layer.reject_pdu("a Command Set that cannot be decoded")

    def data_set(self) -> Iterator[memoryview]:
        """Yield the Data Set that follows a Command Set, in parts, each valid until the second next one is requested.

        Raises
        ------
        AssociationEnded
            The Data Set stays incomplete.
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
            It is much too long; it was read to its end.
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
        """Skip the rest of a Data Set, up to the next message."""
        for _ in self.data_set():
            pass

    def read_response(
        self,
        field: Field,
        message_id: int,
        sop_instance_uid: str = "",
        *,
        waiting: Callable[[], None] | None = None,
        with_data_set: bool = False,
    ) -> CommandSet:
        """Read the response to our request; record a C-CANCEL that comes before it (PS3.7 9.3.2.3).

        Parameters
        ----------
        field, message_id, sop_instance_uid
            Values that the response must have, see ``CommandSet.require_answer``.
        waiting
            Called repeatedly while there is no response; it may ``send``.
        with_data_set
            Whether the caller reads the Data Set; otherwise it is skipped.

        Raises
        ------
        InvalidResponse
            It is no response to that request, or has no Status.
        AssociationEnded
            The peer is gone.
        """
        layer = self.upper_layer
        if waiting is not None:
            layer.watch = waiting
        try:
            with self.guard:
                while (command := self._next_command(is_due=True)[1]).field == Field.C_CANCEL_RQ:
                    self._cancelled.add(command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO))
                if command.field != field:
                    layer.reject_pdu(f"a message with Command Field 0x{command.field:04X} for a response")
                if not with_data_set:
                    self.skip_data_set()
                self.require_answer(command, message_id, sop_instance_uid)
                return command
        finally:
            if waiting is not None:
                layer.watch = None

    def require_answer(self, response: CommandSet, message_id: int, sop_instance_uid: str = "") -> None:
        """Abort unless a response answers our request, see ``CommandSet.require_answer``.

        Raises
        ------
        InvalidResponse
        """
        try:
            response.require_answer(message_id, sop_instance_uid)
        except InvalidDataSet as error:
            log.warning("Association with %s aborted: it sent %s", self.upper_layer.peer_address, error)
            self.abort(block=False)
            raise InvalidResponse(str(error)) from None

    def cancelled(self, message_id: int) -> bool:
        """Tell whether the peer has cancelled the operation ``message_id``, without waiting for the rest of a PDU.

        Raises
        ------
        AssociationEnded
            The peer is gone, so the operation is not needed.
        """
        with self.guard:
            while message_id not in self._cancelled and self._ahead is None and self.upper_layer.has_pdu():
                context_id, command = self._read_command()
                if command.field == Field.C_CANCEL_RQ:
                    self._cancelled.add(command.number(Element.MESSAGE_ID_BEING_RESPONDED_TO))
                else:
                    self._ahead = (context_id, command)  # an early request: keep it for ``read_command``
            return message_id in self._cancelled

    def forget_cancelled(self) -> None:
        """Forget cancelled operations, because a new one may use their Message IDs again."""
        self._cancelled.clear()

    # -- writing -----------------------------------------------------------------------------------------------------

    def send(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send one message whose Data Set, if any, is in memory."""
        with self.guard:
            self.upper_layer.send_message(context_id, command, data)

    def send_data_set(self, context_id: int, command: bytes, parts: Iterable[Piece]) -> None:
        """Send one message whose Data Set comes in parts, with constant memory."""
        with self.guard:
            self.upper_layer.send_data_set(context_id, command, parts)

    # -- ending ------------------------------------------------------------------------------------------------------

    def end_when_idle(self) -> None:
        """From another thread: end after the current request is answered."""
        self.ending = True
        if self._waiting:
            self.upper_layer.shut(socket.SHUT_RD)

    def break_off(self) -> None:
        """From another thread: end at once."""
        self.upper_layer.shut(socket.SHUT_RDWR)

    def finish(self) -> str:
        """Answer the end of the Association that reading has found, before ``close``; return how it ended."""
        return self.upper_layer.finish()

    def release(self) -> None:
        """Release an Association of ours; if the peer does not answer, abort it."""
        self.upper_layer.release()

    def abort(self, *, block: bool = True) -> None:
        """Send an A-ABORT and close the connection; with ``block`` wait a moment for the peer to close first."""
        with self.guard:
            self.upper_layer.abort(block=block)

    def close(self) -> None:
        """Wait a moment for the peer to close, then close."""
        self.upper_layer.linger()


__all__ = [
    "Association",
    "AssociationEnded",
    "AssociationStats",
    "Context",
    "Interrupted",
    "InvalidResponse",
    "LocalAE",
    "PeerTimedOut",
    "Timing",
]
