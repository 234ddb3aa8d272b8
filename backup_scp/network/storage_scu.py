"""Storage SCU: stored files go out over an Association as they are, or losslessly transcoded (PS3.4 B, C.4.2.3)."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Self

from pydicom.config import IGNORE
from pydicom.uid import UID

from backup_scp.errors import (
    ArchiveUnavailable,
    Damaged,
    DestinationBusy,
    DestinationUnavailable,
    InstanceRefused,
    NothingAccepted,
)
from backup_scp.network.association import (
    Association,
    AssociationEnded,
    Context,
    Interrupted,
    InvalidResponse,
    LocalAE,
)
from backup_scp.network.command_set import CommandSet, Element, Field, encode
from backup_scp.network.negotiation import NATIVE
from backup_scp.network.p_data import Piece
from backup_scp.network.status import is_warning
from backup_scp.outgoing import compare_again, parts
from backup_scp.ports import ArchivedFile, Held, RemoteAE, nothing
from backup_scp.transcode import transcode

_PART_BYTES = 1 << 20
MEDIUM_PRIORITY = 0
_MOST_BROKEN_OFF = 3
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
_MOST_CONTEXTS = 128  # odd context IDs 1 to 255, PS3.8 9.3.2.2
_NATIVE = NATIVE[:2]  # what transcoding may end in


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked for a C-MOVE, and in which message (PS3.7 9.3.1.1).

    Its Priority is that of each sub-operation (PS3.4 C.4.2.1.2).
    """

    ae_title: str
    message_id: int
    priority: int = MEDIUM_PRIORITY


class StorageSCU:
    """Sends stored files over an Association that was negotiated, in either role.

    Parameters
    ----------
    association
        Where to.
    contexts
        The Presentation Contexts on which the peer is Storage SCP.
    move_originator
        When this is a sub-operation of a C-MOVE.
    priority
        Of each C-STORE; that of the C-MOVE in its sub-operations.
    """

    def __init__(
        self,
        association: Association,
        contexts: Iterable[Context],
        move_originator: MoveOriginator | None = None,
        *,
        priority: int = MEDIUM_PRIORITY,
    ) -> None:
        self._association = association
        self._move_originator = move_originator
        self._priority = move_originator.priority if move_originator else priority
        self._message_id = 0
        self._contexts: dict[str, dict[str, Context]] = {}  # by SOP Class, then by Transfer Syntax
        for context in contexts:
            self._contexts.setdefault(context.abstract_syntax, {})[context.transfer_syntax] = context

    def store(self, file: ArchivedFile, held: Held, meanwhile: Callable[[], None] = nothing) -> str | None:
        """Send one instance and wait for its Status; ``meanwhile`` see ``ports.Destination``.

        Returns
        -------
        str or None
            A warning in one sentence when the peer stored it with one (Status Bxxx).

        Raises
        ------
        InstanceRefused
            No context, no lossless way to one, or a failure Status.
        ArchiveUnavailable, DigestMismatch
            It could not be read to its end, or changed before its last fragment went out: the Association was aborted.
        InvalidResponse
            The peer did not say what became of it; the Association was aborted.
        AssociationEnded
            The peer is gone.
        """
        accepted = self._contexts.get(held.sop_class_uid)
        if not accepted:
            raise InstanceRefused(f"The destination does not accept SOP Class {held.sop_class_uid}")
        if held.transfer_syntax_uid in accepted:
            return self._store(held, accepted[held.transfer_syntax_uid], parts(file), meanwhile)
        with file.data_set() as stream:
            result = transcode(stream, held.transfer_syntax_uid, list(accepted), file.size_bytes, file.path.parent)
        with result.data_set:
            compare_again(file)
            return self._store(held, accepted[result.transfer_syntax_uid], _parts(result.data_set), meanwhile)

    def _store(
        self, held: Held, context: Context, data_set: Iterable[Piece], meanwhile: Callable[[], None]
    ) -> str | None:
        self._message_id = self._message_id % 0xFFFF + 1
        try:
            self._association.send_data_set(context.context_id, self._request(held), data_set)
        except Damaged:
            self._association.abort()
            raise
        except OSError as error:  # in the middle of a message: no other can follow on this Association
            self._association.abort()
            raise ArchiveUnavailable(f"A stored file cannot be read ({error.strerror})") from None
        meanwhile()
        answer = self._association.read_response(Field.C_STORE_RSP, self._message_id, held.sop_instance_uid)
        return _judge(answer)

    def _request(self, held: Held) -> bytes:
        values: dict[Element, str | int] = {
            Element.AFFECTED_SOP_CLASS_UID: held.sop_class_uid,
            Element.COMMAND_FIELD: Field.C_STORE_RQ,
            Element.MESSAGE_ID: self._message_id,
            Element.PRIORITY: self._priority,
            Element.AFFECTED_SOP_INSTANCE_UID: held.sop_instance_uid,
        }
        if self._move_originator:
            values[Element.MOVE_ORIGINATOR_AE_TITLE] = self._move_originator.ae_title
            values[Element.MOVE_ORIGINATOR_MESSAGE_ID] = self._move_originator.message_id
        return encode(values, data_set=True)


class RemoteAEDestination:
    """A remote AE as ``ports.Destination``: one Association at a time, more than one when there are many contexts.

    Parameters
    ----------
    local
        Who we are.
    remote
        Where to.
    move_originator
        When this serves a C-MOVE.
    watch
        Called again and again while the remote AE keeps us waiting; what it raises ends the waiting.
    """

    def __init__(
        self,
        local: LocalAE,
        remote: RemoteAE,
        move_originator: MoveOriginator | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = remote.name
        self._local = local
        self._remote = remote
        self._move_originator = move_originator
        self._watch = watch
        self._interrupted = False
        self._proposals: list[list[tuple[str, Sequence[str]]]] = []
        self._proposal_of: dict[str, int] = {}  # by SOP Class
        self._open: tuple[int, Association, StorageSCU] | None = None
        self._not_accepted: dict[int, str] = {}  # why, by number of the proposal
        self._broken_off = 0  # in a row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._interrupted:
            self._abandon()
        self._release()

    def prepare(self, instances: Sequence[Held]) -> Sequence[Held]:
        """See ``ports.Destination``: instances of one Association stay together."""
        self._proposals = propose(instances)
        self._proposal_of = {
            abstract: number for number, proposal in enumerate(self._proposals) for abstract, _ in proposal
        }
        ordered = sorted(instances, key=self._number_of)
        if ordered and self._proposals[0]:
            with contextlib.suppress(InstanceRefused):  # another Association may be accepted
                self._associate(self._number_of(ordered[0]))
        return ordered

    def send(self, file: ArchivedFile, held: Held, meanwhile: Callable[[], None] = nothing) -> str | None:
        """See ``ports.Destination``."""
        if held.sop_class_uid not in self._proposal_of:
            raise InstanceRefused("Its SOP Class UID cannot be proposed to any destination")
        scu = self._associate(self._number_of(held))
        try:
            warning = scu.store(file, held, meanwhile)
        except InvalidResponse as error:
            self._abandon()
            raise InstanceRefused(f"{self._remote.ae_title} did not confirm it: it sent {error}") from None
        except AssociationEnded:
            self._abandon()
            self._broken_off += 1
            sentence = f"{self._remote.ae_title} broke off the association while it was sent"
            if self._broken_off < _MOST_BROKEN_OFF:  # it may be this one that it cannot take
                raise InstanceRefused(sentence) from None
            raise DestinationUnavailable(sentence) from None
        except Interrupted:
            self._interrupted = True
            raise
        self._broken_off = 0
        return warning

    def _number_of(self, held: Held) -> int:
        return self._proposal_of.get(held.sop_class_uid, 0)

    def _associate(self, number: int) -> StorageSCU:
        if self._open is not None and self._open[0] == number and self._open[1].is_established:
            return self._open[2]
        self._release()
        if number in self._not_accepted:
            raise InstanceRefused(self._not_accepted[number])
        try:
            association = self._request(number)
        except NothingAccepted as error:
            if len(self._proposals) == 1:
                raise
            self._not_accepted[number] = str(error)
            raise InstanceRefused(str(error)) from None
        scu = StorageSCU(association, association.contexts.values(), self._move_originator)
        self._open = (number, association, scu)
        return scu

    def _request(self, number: int) -> Association:
        """Open an Association; one that is rejected for the moment is asked for again, for a while (PS3.8 9.3.4)."""
        until, pause_s = time.monotonic() + self._local.timing.busy_s, _SHORTEST_PAUSE_S
        while True:
            try:
                return Association.request_from(
                    local=self._local,
                    called=self._remote.ae_title,
                    host=self._remote.host,
                    port=self._remote.port,
                    contexts=self._proposals[number],
                    tls=self._remote.tls,
                    watch=self._watch,
                )
            except DestinationBusy:
                if time.monotonic() + pause_s > until:
                    raise
            self._pause(pause_s * random.uniform(0.5, 1))  # noqa: S311 - so that two of us do not ask in step for ever
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _pause(self, duration_s: float) -> None:
        until = time.monotonic() + duration_s
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, _SHORTEST_PAUSE_S))
            self._watch()

    def _release(self) -> None:
        if self._open is not None:
            self._open[1].release()
            self._open = None

    def _abandon(self) -> None:
        if self._open is not None:
            self._open[1].abort(block=False)
            self._open = None


def propose(instances: Iterable[Held]) -> list[list[tuple[str, Sequence[str]]]]:
    """Make the Presentation Contexts for a set of instances, at most 128 an Association.

    For each SOP Class one context with each Transfer Syntax that is stored, alone, so that the peer cannot choose
    another, and each native one to transcode to.  The contexts of a SOP Class stay in one Association.  Each that no
    peer need take (letters, over 64 characters) comes last and alone, for a peer may abort at the sight of it.
    """
    stored: dict[str, dict[str, None]] = {}
    for held in instances:
        if held.sop_class_uid and held.sop_class_uid.isascii():
            syntaxes = stored.setdefault(held.sop_class_uid, {})
            if _is_valid(held.transfer_syntax_uid):
                syntaxes[held.transfer_syntax_uid] = None
    proposals: list[list[tuple[str, Sequence[str]]]] = [[]]
    for abstract, syntaxes in sorted(stored.items(), key=lambda item: not _is_valid(item[0])):
        some = list(syntaxes)[: _MOST_CONTEXTS - len(_NATIVE)]  # nobody has more; if so, the rest is transcoded
        contexts = [(abstract, (syntax,)) for syntax in dict.fromkeys((*some, *_NATIVE))]
        if proposals[-1] and (len(proposals[-1]) + len(contexts) > _MOST_CONTEXTS or not _is_valid(abstract)):
            proposals.append([])
        proposals[-1] += contexts
    return proposals


def _is_valid(uid: str) -> bool:
    return UID(uid, IGNORE).is_valid


def _parts(stream: BinaryIO) -> Iterator[bytes]:
    while part := stream.read(_PART_BYTES):
        yield part


def _judge(answer: CommandSet) -> str | None:
    """Make a C-STORE Status a return, a warning or an error (PS3.4 B.2.3)."""
    status, comment = answer.status, answer.text(Element.ERROR_COMMENT)
    if status == 0:
        return None
    sentence = f"The destination answered status 0x{status:04X}" + (f": {comment}" if comment else "")
    if is_warning(status):
        return sentence
    raise InstanceRefused(sentence, status)
