"""Storage SCU: stored files go out over an Association as they are, or losslessly transcoded (PS3.4 B, C.4.2.3)."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydicom.config import IGNORE
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from backup_scp.dicom.transcode import applied, padding
from backup_scp.dimse.association.association import (
    Association,
    AssociationEnded,
    Context,
    Interrupted,
    InvalidResponse,
    LocalAE,
    PeerTimedOut,
)
from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, encode
from backup_scp.dimse.messages.dimse_status import is_out_of_resources, is_warning
from backup_scp.dimse.scu.transcoding import Transcoder
from backup_scp.dimse.upper_layer.p_data import Piece
from backup_scp.errors import (
    ArchiveUnavailable,
    Damaged,
    DestinationBusy,
    DestinationSilent,
    DestinationUnavailable,
    InstanceRefused,
    InstanceUnconfirmed,
    NoRoom,
    NothingAccepted,
)
from backup_scp.ports import ArchivedFile, Meanwhile, RemoteAE, StoredVersion, do_nothing
from backup_scp.services.read_ahead import parts

MEDIUM_PRIORITY = 0
_MOST_SILENT = 3
_ENOUGH = 2  # images that arrived in Implicit VR alone, before all are sent so
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
_MOST_CONTEXTS = 128  # odd context IDs 1 to 255, PS3.8 9.3.2.2
_NATIVE = NATIVE[:2]  # what transcoding may end in
_IMPLICIT = NATIVE[1]
_NOT_IMPLICIT = frozenset({NATIVE[0], *NATIVE[2:], str(DeflatedExplicitVRLittleEndian)})
_ALONE = -1  # in place of the number of a proposal


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
    sent
        Counts what the peer has stored, by Transfer Syntax: as stored, and as sent.
    waiting
        Called again and again while a response is awaited, and not while a request is sent.
    """

    def __init__(
        self,
        association: Association,
        contexts: Iterable[Context],
        move_originator: MoveOriginator | None = None,
        *,
        priority: int = MEDIUM_PRIORITY,
        sent: Counter[tuple[str, str]] | None = None,
        waiting: Callable[[], None] | None = None,
    ) -> None:
        self._association = association
        self._waiting = waiting
        self._sent = Counter() if sent is None else sent
        self._move_originator = move_originator
        self._priority = move_originator.priority if move_originator else priority
        self._message_id = 0
        self._contexts: dict[str, dict[str, Context]] = {}  # by SOP Class, then by Transfer Syntax
        for context in contexts:
            self._contexts.setdefault(context.abstract_syntax, {})[context.transfer_syntax] = context
        self._transcoder = Transcoder(lambda held: list(self._contexts.get(held.sop_class_uid, ())))

    def close(self) -> None:
        """Call it when nothing more is sent; the Association is not ended."""
        self._transcoder.close()

    def store(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> str | None:
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
            return self._store(held, accepted[held.transfer_syntax_uid], _even_parts(file, held), meanwhile)
        result = self._transcoder.transcode(file, held, meanwhile)
        with result.data_set:
            return self._store(held, accepted[result.transfer_syntax_uid], result.parts(), do_nothing)

    def _store(
        self, held: StoredVersion, context: Context, data_set: Iterable[Piece], meanwhile: Meanwhile
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
        self._transcoder.begin(meanwhile())
        uid = held.sop_instance_uid
        answer = self._association.read_response(Field.C_STORE_RSP, self._message_id, uid, waiting=self._waiting)
        warning = _judge(answer)
        self._sent[held.transfer_syntax_uid, context.transfer_syntax] += 1
        return warning

    def _request(self, held: StoredVersion) -> bytes:
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

    Attributes
    ----------
    sent
        See ``StorageSCU``.
    """

    def __init__(
        self,
        local: LocalAE,
        remote: RemoteAE,
        move_originator: MoveOriginator | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = remote.name
        self.sent: Counter[tuple[str, str]] = Counter()
        self.implementation = ""
        self._local = local
        self._remote = remote
        self._move_originator = move_originator
        self._watch = watch
        self._interrupted = False
        self._expected: dict[str, dict[str, None]] = {}
        self._proposals: list[list[tuple[str, Sequence[str]]]] = []
        self._proposal_of: dict[str, int] = {}  # by SOP Class
        self._open: tuple[int, Association, StorageSCU] | None = None
        self._not_accepted: dict[int, str] = {}  # why, by number of the proposal
        self._silent = 0  # in a row
        self._helped = 0  # how often Implicit VR alone has

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._interrupted or isinstance(exc[1], KeyboardInterrupt):
            self._abandon()  # perhaps in the middle of a message
        self._release()

    def expect(self, held: StoredVersion) -> None:
        """See ``ports.RestoreDestination``."""
        _note(held, self._expected)

    def prepare(self, instances: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        """See ``ports.Destination``: instances of one Association stay together."""
        for held in instances:
            _note(held, self._expected)
        proposals = _proposals(self._expected)
        if proposals != self._proposals:
            self._release()
            self._not_accepted.clear()
        self._proposals = proposals
        self._proposal_of = {abstract: number for number, proposal in enumerate(proposals) for abstract, _ in proposal}
        ordered = sorted(instances, key=self._number_of)
        if ordered and self._proposals[0]:
            with contextlib.suppress(InstanceRefused):  # another Association may be accepted
                self._associate(self._number_of(ordered[0]))
        return ordered

    def send(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> str | None:
        """See ``ports.Destination``."""
        if held.sop_class_uid not in self._proposal_of:
            raise InstanceRefused("Its SOP Class UID cannot be proposed to any destination")
        scu = self._associate(self._number_of(held))
        try:
            warning = self._store(scu, file, held, meanwhile)
        except PeerTimedOut:
            raise self._silence() from None
        except AssociationEnded:
            warning = self._once_more(file, held)
        self._silent = 0
        return warning

    def _store(
        self, scu: StorageSCU, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing
    ) -> str | None:
        try:
            return scu.store(file, held, meanwhile)
        except InvalidResponse as error:
            self._abandon()
            raise InstanceUnconfirmed(f"{self._remote.ae_title} did not confirm it: it sent {error}") from None
        except AssociationEnded:
            self._abandon()
            raise
        except Interrupted:
            self._interrupted = True
            raise

    def _silence(self) -> DestinationSilent | InstanceUnconfirmed:
        """Say that it did not answer: perhaps because of this instance, but not several times in a row."""
        self._silent += 1
        timeout_s = self._local.timing.network_s
        sentence = f"{self._remote.ae_title} did not answer for {timeout_s:g} s while an image was sent"
        return (InstanceUnconfirmed if self._silent < _MOST_SILENT else DestinationSilent)(sentence)

    def _once_more(self, file: ArchivedFile, held: StoredVersion) -> str | None:
        """Try Implicit VR alone, once: some lose the Association over Explicit VR, which they have accepted.

        Whether it lives at all the next instance will show, on an Association of its own.
        """
        broke_off = InstanceUnconfirmed(f"{self._remote.ae_title} broke off the association while it was sent")
        if held.transfer_syntax_uid == _IMPLICIT:
            raise broke_off
        try:
            association = self._request([(held.sop_class_uid, (_IMPLICIT,))])
            scu = StorageSCU(association, association.contexts.values(), self._move_originator, sent=self.sent)
            self._open = (_ALONE, association, scu)
            warning = self._store(scu, replace(file, content=None), held)  # another one is in memory by now
        except (AssociationEnded, DestinationUnavailable):
            raise broke_off from None
        except NoRoom:
            raise
        except InstanceRefused as error:
            raise broke_off from error
        self._helped += 1
        return warning

    def _number_of(self, held: StoredVersion) -> int:
        return self._proposal_of.get(held.sop_class_uid, 0)

    def _associate(self, number: int) -> StorageSCU:
        if self._open is not None and self._open[0] == number and self._open[1].is_established:
            return self._open[2]
        self._release()
        if number in self._not_accepted:
            raise InstanceRefused(self._not_accepted[number])
        try:
            association = self._request(self._proposed(number))
        except NothingAccepted as error:
            self._not_accepted[number] = str(error)
            if len(self._proposals) == 1:
                raise
            raise InstanceRefused(str(error)) from None
        scu = StorageSCU(association, association.contexts.values(), self._move_originator, sent=self.sent)
        self._open = (number, association, scu)
        self.implementation = association.implementation
        return scu

    def _proposed(self, number: int) -> list[tuple[str, Sequence[str]]]:
        """Give the contexts of a proposal, without Explicit VR once that was seen to do harm."""
        if self._helped < _ENOUGH:
            return self._proposals[number]
        return [context for context in self._proposals[number] if context[1][0] not in _NOT_IMPLICIT]

    def _request(self, contexts: Sequence[tuple[str, Sequence[str]]]) -> Association:
        """Open an Association; one that is rejected for the moment is asked for again, for a while (PS3.8 9.3.4)."""
        until, pause_s = time.monotonic() + self._local.timing.busy_s, _SHORTEST_PAUSE_S
        while True:
            try:
                return Association.request_from(
                    local=self._local,
                    called=self._remote.ae_title,
                    host=self._remote.host,
                    port=self._remote.port,
                    contexts=contexts,
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
            self._open[2].close()
            self._open[1].release()
            self._open = None

    def _abandon(self) -> None:
        if self._open is not None:
            self._open[2].close()
            self._open[1].abort(block=False)
            self._open = None


def propose(instances: Iterable[StoredVersion]) -> list[list[tuple[str, Sequence[str]]]]:
    """Make the Presentation Contexts for a set of instances, at most 128 an Association.

    For each SOP Class one context with each Transfer Syntax that is stored, alone, so that the peer cannot choose
    another, and each native one to transcode to.  The contexts of a SOP Class stay in one Association.  Each that no
    peer need take (letters, over 64 characters) comes last and alone, for a peer may abort at the sight of it.
    """
    stored: dict[str, dict[str, None]] = {}
    for held in instances:
        _note(held, stored)
    return _proposals(stored)


def _note(held: StoredVersion, stored: dict[str, dict[str, None]]) -> None:
    """Note the SOP Class and the Transfer Syntax of an instance, where they can be proposed."""
    if held.sop_class_uid and held.sop_class_uid.isascii():
        syntaxes = stored.setdefault(held.sop_class_uid, {})
        if held.transfer_syntax_uid not in syntaxes and _is_valid(held.transfer_syntax_uid):
            syntaxes[held.transfer_syntax_uid] = None


def _proposals(stored: dict[str, dict[str, None]]) -> list[list[tuple[str, Sequence[str]]]]:
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


def _even_parts(file: ArchivedFile, held: StoredVersion) -> Iterator[Piece]:
    """Give the Data Set as it is stored; of odd length, with the byte that it lacks (PS3.8 E.1)."""
    if file.size_bytes % 2 == 0:
        return parts(file)
    with file.data_set() as stream:
        missing = padding(stream, held.transfer_syntax_uid, file.size_bytes)
    return applied(parts(file), missing)


def _judge(answer: CommandSet) -> str | None:
    """Make a C-STORE Status a return, a warning or an error (PS3.4 B.2.3)."""
    status, comment = answer.status, answer.text(Element.ERROR_COMMENT)
    if status == 0:
        return None
    sentence = f"The destination answered status 0x{status:04X}" + (f": {comment}" if comment else "")
    if is_warning(status):
        return sentence
    raise (NoRoom if is_out_of_resources(status) else InstanceRefused)(sentence, status)
