"""Retrieve SCU: fetch single images from a remote AE by C-GET (PS3.4 C.4.3, Study Root)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from backup_scp.dicom.attributes import BY_KEYWORD
from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dimse.association.association import Association, AssociationEnded, Context, InvalidResponse, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, encode, response
from backup_scp.dimse.messages.dimse_status import PENDING, SUCCESS
from backup_scp.dimse.messages.response_identifier import QUERY_RETRIEVE_LEVEL, encode_elements
from backup_scp.errors import FileMissing, InstanceRefused, InstanceUnconfirmed, NothingAccepted
from backup_scp.ports import RemoteAE, StoredVersion, do_nothing

_UNIQUE_KEYS = [BY_KEYWORD[name] for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
_LEVELS = (b"STUDY", b"SERIES", b"IMAGE")
_PLAIN = 0x00FF

Write = Callable[[memoryview], object]
Store = Callable[[Context, CommandSet], object]


class RetrieveSCU:
    """Fetches images one by one; a context manager.  One Association serves images of one SOP Class and encoding.

    Parameters
    ----------
    local
        Our AE title and TLS context.
    remote
        The AE to ask.
    as_stored
        Whether to accept the stored Transfer Syntax alone, and not its native alternatives too.
    watch
        Called repeatedly while we wait; an exception from it ends the wait.
    """

    def __init__(
        self, local: LocalAE, remote: RemoteAE, *, as_stored: bool = False, watch: Callable[[], None] = do_nothing
    ) -> None:
        self._local = local
        self._remote = remote
        self._as_stored = as_stored
        self._watch = watch
        self._open: tuple[tuple[str, str], Association] | None = None
        self._message_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._open is not None:
            self._open[1].release()
            self._open = None

    def get(self, held: StoredVersion, write: Write) -> str:
        """Fetch one image, and write its Data Set part by part; each part is valid during the call.

        Returns
        -------
        str
            The Transfer Syntax in which it came.

        Raises
        ------
        FileMissing
            The AE has no such image.
        InstanceRefused
            It did not give the image.
        InstanceUnconfirmed
            It broke off.
        NothingAccepted
            It does not let us fetch images of this SOP Class.
        DestinationUnavailable
        """
        association = self._associate(held)
        try:
            return self._get(association, held, write)
        except InvalidResponse as error:
            self._drop()
            raise InstanceUnconfirmed(f"{self._remote.ae_title} did not answer C-GET: it sent {error}") from None
        except AssociationEnded:
            self._drop()
            raise InstanceUnconfirmed(f"{self._remote.ae_title} broke off while it was fetched") from None
        except (FileMissing, InstanceRefused):
            raise
        except BaseException:  # from ``write`` or ``watch``: the rest of the message was not read
            self._drop()
            raise

    def _associate(self, held: StoredVersion) -> Association:
        wanted = (held.sop_class_uid, held.transfer_syntax_uid)
        if self._open is not None and self._open[0] == wanted and self._open[1].is_established:
            return self._open[1]
        self.__exit__()
        syntaxes = (held.transfer_syntax_uid,) if self._as_stored else (held.transfer_syntax_uid, *NATIVE[:2])
        association = Association.request_from(
            local=self._local,
            called=self._remote.ae_title,
            host=self._remote.host,
            port=self._remote.port,
            contexts=[
                (STUDY_ROOT.get_uid, NATIVE[:2]),
                *((held.sop_class_uid, (syntax,)) for syntax in dict.fromkeys(syntaxes)),
            ],
            tls=self._remote.tls,
            as_scp=[held.sop_class_uid],
            watch=self._watch,
        )
        self._open = wanted, association
        accepted = {context.abstract_syntax for context in association.contexts.values()}
        may_store = association.we_are_scp.get(held.sop_class_uid, True)  # many peers do not answer the role
        if not may_store or not {STUDY_ROOT.get_uid, held.sop_class_uid} <= accepted:
            self.__exit__()
            raise NothingAccepted(
                f"{self._remote.ae_title} does not give this node images of SOP Class {held.sop_class_uid} by C-GET"
            )
        return association

    def _get(self, association: Association, held: StoredVersion, write: Write) -> str:
        came = ""

        def store(context: Context, command: CommandSet) -> None:
            nonlocal came
            came = self._receive(association, context, command, held, write) or came

        self._message_id = self._message_id % 0xFFFF + 1
        uids = (held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)
        status = get(association, self._message_id, uids, store).status
        if came:
            return came
        if status == SUCCESS:
            raise FileMissing(f"{self._remote.ae_title} has no image {held.sop_instance_uid}")
        raise InstanceRefused(f"{self._remote.ae_title} answered C-GET with status 0x{status:04X}", status)

    @staticmethod
    def _receive(
        association: Association, context: Context, command: CommandSet, held: StoredVersion, write: Write
    ) -> str:
        """Receive one image, and answer it; return its Transfer Syntax when it is the one that was asked for."""
        is_ours = command.text(Element.AFFECTED_SOP_INSTANCE_UID) == held.sop_instance_uid
        for data in association.data_set():
            if is_ours:
                write(data)
        association.send(context.context_id, response(command, SUCCESS))
        return context.transfer_syntax if is_ours else ""

    def _drop(self) -> None:
        if self._open is not None:
            self._open[1].abort(block=False)
            self._open = None


def get(association: Association, message_id: int, uids: Sequence[str], store: Store) -> CommandSet:
    """Send one C-GET-RQ; let ``store`` read and answer each C-STORE-RQ; return the final response (PS3.4 C.4.3).

    Parameters
    ----------
    uids
        Of the study; of a series in it; of an image in that.

    Raises
    ------
    AssociationEnded
        The peer is gone.
    """
    context = context_of(association, STUDY_ROOT.get_uid)
    request: dict[Element, str | int] = {
        Element.AFFECTED_SOP_CLASS_UID: STUDY_ROOT.get_uid,
        Element.COMMAND_FIELD: Field.C_GET_RQ,
        Element.MESSAGE_ID: message_id,
        Element.PRIORITY: 0,
    }
    association.send(context.context_id, encode(request, data_set=True), retrieve_identifier(uids, context))
    while True:
        context_id, command = association.read_command()
        if command.field == Field.C_STORE_RQ:
            store(association.contexts[context_id], command)
            continue
        association.skip_data_set()
        association.require_answer(command, message_id)
        if not is_pending(command.status):
            return command


def context_of(association: Association, abstract_syntax: str) -> Context:
    """Return an accepted Presentation Context of a SOP Class that is among the accepted ones."""
    return next(each for each in association.contexts.values() if each.abstract_syntax == abstract_syntax)


def is_pending(status: int) -> bool:
    """Tell whether a further response follows; the low byte of a Pending Status says nothing more here."""
    return status & ~_PLAIN == PENDING & ~_PLAIN


def retrieve_identifier(uids: Sequence[str], context: Context) -> bytes:
    """Encode the Identifier of a C-GET or C-MOVE at the level of the last UID (PS3.4 C.4.2.1.4)."""
    keys = [(key.tag, key.vr, uid.encode("latin-1", "replace")) for key, uid in zip(_UNIQUE_KEYS, uids, strict=False)]
    level = _LEVELS[len(keys) - 1]
    return encode_elements([(QUERY_RETRIEVE_LEVEL, "CS", level), *keys], context.transfer_syntax)
