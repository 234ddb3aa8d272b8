"""Storage SCU: stored files go out over an Association as they are, or losslessly transcoded (PS3.4 B, C.4.2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Self

from backup_scp.errors import DestinationUnavailable, InstanceRefused
from backup_scp.network.association import Association, AssociationEnded, Context, Timing
from backup_scp.network.command_set import CommandSet, Element, Field, encode
from backup_scp.network.negotiation import NATIVE
from backup_scp.network.status import is_warning
from backup_scp.ports import ArchivedFile, Held, RemoteAE
from backup_scp.transcode import transcode

_PART_BYTES = 1 << 20
_MEDIUM_PRIORITY = 0
_MOST_CONTEXTS = 128  # odd context IDs 1 to 255, PS3.8 9.3.2.2
_NATIVE = NATIVE[:2]  # what transcoding may end in


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked for a C-MOVE, and in which message (PS3.7 9.3.1.1)."""

    ae_title: str
    message_id: int


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
    """

    def __init__(
        self, association: Association, contexts: Iterable[Context], move_originator: MoveOriginator | None = None
    ) -> None:
        self._association = association
        self._move_originator = move_originator
        self._message_id = 0
        self._contexts: dict[str, dict[str, Context]] = {}  # by SOP Class, then by Transfer Syntax
        for context in contexts:
            self._contexts.setdefault(context.abstract_syntax, {})[context.transfer_syntax] = context

    def store(self, file: ArchivedFile, held: Held) -> str | None:
        """Send one instance and wait for its Status.

        Returns
        -------
        str or None
            A warning in one sentence when the peer stored it with one (Status Bxxx).

        Raises
        ------
        InstanceRefused
            No context, no lossless way to one, or a failure Status.
        AssociationEnded
            The peer is gone.
        """
        accepted = self._contexts.get(held.sop_class_uid)
        if not accepted:
            raise InstanceRefused(f"The destination does not accept SOP Class {held.sop_class_uid}")
        with file.data_set() as stream:
            result = transcode(stream, held.transfer_syntax_uid, list(accepted), held.size_bytes, file.path.parent)
            with result.data_set:
                return self._store(held, accepted[result.transfer_syntax_uid], result.data_set)

    def _store(self, held: Held, context: Context, stream: BinaryIO) -> str | None:
        self._message_id = self._message_id % 0xFFFF + 1
        self._association.send_data_set(context.context_id, self._request(held), _parts(stream))
        answer = self._association.read_response(Field.C_STORE_RSP)
        return _judge(answer)

    def _request(self, held: Held) -> bytes:
        values: dict[Element, str | int] = {
            Element.AFFECTED_SOP_CLASS_UID: held.sop_class_uid,
            Element.COMMAND_FIELD: Field.C_STORE_RQ,
            Element.MESSAGE_ID: self._message_id,
            Element.PRIORITY: _MEDIUM_PRIORITY,
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
    ae_title
        Our own AE title.
    remote
        Where to.
    timing
        How long the network may take.
    move_originator
        When this serves a C-MOVE.
    """

    def __init__(
        self, ae_title: str, remote: RemoteAE, timing: Timing, move_originator: MoveOriginator | None = None
    ) -> None:
        self.name = remote.name
        self._ae_title = ae_title
        self._remote = remote
        self._timing = timing
        self._move_originator = move_originator
        self._proposals: list[list[tuple[str, Sequence[str]]]] = []
        self._proposal_of: dict[str, int] = {}  # by SOP Class
        self._open: tuple[int, Association, StorageSCU] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._release()

    def prepare(self, instances: Sequence[Held]) -> Sequence[Held]:
        """See ``ports.Destination``: instances of one Association stay together."""
        self._proposals = propose(instances)
        self._proposal_of = {
            abstract: number for number, proposal in enumerate(self._proposals) for abstract, _ in proposal
        }
        if instances:
            self._associate(self._proposal_of[instances[0].sop_class_uid])
        return sorted(instances, key=lambda held: self._proposal_of[held.sop_class_uid])

    def send(self, file: ArchivedFile, held: Held) -> str | None:
        """See ``ports.Destination``."""
        scu = self._associate(self._proposal_of[held.sop_class_uid])
        try:
            return scu.store(file, held)
        except AssociationEnded:
            self._abandon()
            raise DestinationUnavailable(f"{self._remote.ae_title} broke off the association") from None

    def _associate(self, number: int) -> StorageSCU:
        if self._open is not None and self._open[0] == number:
            return self._open[2]
        self._release()
        association = Association.request_from(
            calling=self._ae_title,
            called=self._remote.ae_title,
            host=self._remote.host,
            port=self._remote.port,
            contexts=self._proposals[number],
            timing=self._timing,
        )
        scu = StorageSCU(association, association.contexts.values(), self._move_originator)
        self._open = (number, association, scu)
        return scu

    def _release(self) -> None:
        if self._open is not None:
            self._open[1].release()
            self._open = None

    def _abandon(self) -> None:
        if self._open is not None:
            self._open[1].abort()
            self._open = None


def propose(instances: Iterable[Held]) -> list[list[tuple[str, Sequence[str]]]]:
    """Make the Presentation Contexts for a set of instances, at most 128 an Association.

    For each SOP Class one context with each Transfer Syntax that is stored, alone, so that the peer cannot choose
    another, and each native one to transcode to.  The contexts of a SOP Class stay in one Association.
    """
    stored: dict[str, dict[str, None]] = {}
    for held in instances:
        stored.setdefault(held.sop_class_uid, {})[held.transfer_syntax_uid] = None
    proposals: list[list[tuple[str, Sequence[str]]]] = [[]]
    for abstract, syntaxes in stored.items():
        contexts = [(abstract, (syntax,)) for syntax in dict.fromkeys((*syntaxes, *_NATIVE))]
        if len(proposals[-1]) + len(contexts) > _MOST_CONTEXTS:
            proposals.append([])
        proposals[-1] += contexts[:_MOST_CONTEXTS]
    return proposals


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
