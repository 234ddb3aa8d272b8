"""Storage SCU: send stored files over an Association as they are, or losslessly transcoded (PS3.4 B, C.4.2.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from backup_scp.dicom.transcode import applied, padding
from backup_scp.dicom.uid_names import uid_name
from backup_scp.dimse.association.association import Association, Context
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, encode
from backup_scp.dimse.messages.dimse_status import is_out_of_resources, is_warning
from backup_scp.dimse.scu.transcoding import Transcoder
from backup_scp.dimse.upper_layer.p_data import Piece
from backup_scp.errors import ArchiveUnavailable, Damaged, InstanceRefused, NoRoom
from backup_scp.ports import ArchivedFile, Meanwhile, StoredVersion, do_nothing
from backup_scp.services.read_ahead import parts

MEDIUM_PRIORITY = 0


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """The requestor of a C-MOVE, and its Message ID (PS3.7 9.3.1.1).

    Each sub-operation has the Priority of the C-MOVE (PS3.4 C.4.2.1.2).
    """

    ae_title: str
    message_id: int
    priority: int = MEDIUM_PRIORITY


class StorageSCU:
    """Sends stored files over an established Association, in either role.

    Parameters
    ----------
    association
        The Association.
    contexts
        The Presentation Contexts on which the peer is Storage SCP.
    move_originator
        The requestor of the C-MOVE, for its sub-operations.
    priority
        Priority of each C-STORE; in a C-MOVE the one of its request.
    sent
        Counts what the peer has stored, by two Transfer Syntaxes: as stored, and as sent.
    waiting
        Called repeatedly while it waits for a response, but not while it sends a request.
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
        """Release resources after the last instance; the Association stays open."""
        self._transcoder.close()

    def store(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> str | None:
        """Send one instance and wait for its Status; for ``meanwhile`` see ``ports.Destination``.

        Returns
        -------
        str or None
            The warning in one sentence, when the peer stored it with one (Status Bxxx).

        Raises
        ------
        InstanceRefused
            There is no context, no lossless way to one, or the Status is a failure.
        ArchiveUnavailable, DigestMismatch
            The file could not be read, or changed before its last fragment was sent: the Association was aborted.
        InvalidResponse
            The peer sent no valid Status; the Association was aborted.
        AssociationEnded
            The peer is gone.
        """
        accepted = self._contexts.get(held.sop_class_uid)
        if not accepted:
            raise InstanceRefused(f"The destination does not accept {uid_name(held.sop_class_uid)}")
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
        except OSError as error:  # the message is incomplete, so no other can follow on this Association
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


def _even_parts(file: ArchivedFile, held: StoredVersion) -> Iterator[Piece]:
    """Yield the stored Data Set; add the missing byte to one of odd length (PS3.8 E.1)."""
    if file.size_bytes % 2 == 0:
        return parts(file)
    with file.data_set() as stream:
        missing = padding(stream, held.transfer_syntax_uid, file.size_bytes)
    return applied(parts(file), missing)


def _judge(answer: CommandSet) -> str | None:
    """Turn a C-STORE Status into None, a warning or an error (PS3.4 B.2.3)."""
    status = answer.status
    if status == 0:
        return None
    comment = answer.text(Element.ERROR_COMMENT)
    sentence = f"The destination answered status 0x{status:04X}" + (f": {comment}" if comment else "")
    if is_warning(status):
        return sentence
    raise (NoRoom if is_out_of_resources(status) else InstanceRefused)(sentence, status)
