"""A PACS whose images are fetched: listed by C-FIND, brought by C-GET or C-MOVE (PS3.4 C.4.1 to C.4.3, Study Root)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dicom.uids import is_like_uid
from backup_scp.dimse.association.association import Association, AssociationEnded, Context, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, encode, response
from backup_scp.dimse.messages.dimse_status import DOES_NOT_MATCH_SOP_CLASS, MOVE_DESTINATION_UNKNOWN, SUCCESS
from backup_scp.dimse.scu.remote_ae_list import RemoteAEList, answered
from backup_scp.dimse.scu.retrieve_scu import context_of, get, is_pending, retrieve_identifier
from backup_scp.dimse.scu.wanted_contexts import MOST_CLASSES, UsualClasses, contexts_as_stored
from backup_scp.errors import DestinationRefuses, InstanceUnconfirmed, InvalidDataSet, NothingAccepted
from backup_scp.ports import Begin, Heading, RemoteAE, RemoteImage, RemoteSeries, do_nothing

_FRUITLESS = 3  # C-MOVEs in a row after which nothing arrived


class RemoteAESource(RemoteAEList):
    """A remote AE as ``ports.PullSource``.

    Parameters
    ----------
    local, remote
        Our AE and the PACS.
    how_to_reach_us
        For sentences: what the PACS must know of this node for C-MOVE.
    listen
        Called before a C-MOVE: starts to receive images, when no node runs.
    """

    def __init__(
        self, local: LocalAE, remote: RemoteAE, how_to_reach_us: str, listen: Callable[[], None] = do_nothing
    ) -> None:
        super().__init__(local, remote)
        self._reach = how_to_reach_us
        self._listen = listen
        self._getting: tuple[frozenset[str], Association] | None = None
        self._has_got = False  # an image, by C-GET
        self._fruitless = 0
        self._usual = UsualClasses()

    def __exit__(self, *exc: object) -> None:
        self._drop_getting(release=True)
        super().__exit__(*exc)

    @property
    def if_lost(self) -> str:
        """See ``ports.PullSource``."""
        return ", and it is not here" + ("" if self.gets else f": check that {self._reach} is set there")

    def fetch_series(self, series: RemoteSeries, images: Sequence[RemoteImage], begin: Begin) -> str:
        """See ``ports.PullSource``: by C-GET where the PACS offers it for the SOP Classes, else by C-MOVE."""
        classes = frozenset(image.sop_class_uid for image in images)
        if len(classes) > MOST_CLASSES:
            return next(filter(None, [self.fetch_image(image, begin) for image in images]), "")
        return self._fetch(classes, series[:2], begin)

    def fetch_image(self, image: RemoteImage, begin: Begin) -> str:
        """See ``ports.PullSource``."""
        return self._fetch(frozenset({image.sop_class_uid}), image.key, begin)

    def _fetch(self, classes: frozenset[str], uids: Sequence[str], begin: Begin) -> str:
        """Fetch by C-GET; by C-MOVE what that does not bring: some PACS break off at one and give it by the other."""
        reason, broken = "", None
        if self.gets:
            try:
                reason = self._get_any(classes, uids, begin)
            except InstanceUnconfirmed as error:
                reason, broken = str(error), error
            if not reason:
                return ""
        if self.moves:
            try:
                moved = self._move(uids)
                self.gets = self.gets and (self._has_got or broken is None)
                return moved
            except DestinationRefuses:
                if not self._has_got:
                    raise
                self.moves = False
        if broken is not None:
            raise broken
        return reason

    def _get_any(self, classes: frozenset[str], uids: Sequence[str], begin: Begin) -> str:
        """Fetch by C-GET; where the SOP Classes are not known, try the usual ones."""
        is_known = bool(classes) and all(map(is_like_uid, classes))
        reason = ""
        for some in [classes] if is_known else self._usual.groups():
            try:
                reason = self._get(some, uids, begin)
            except NothingAccepted as error:
                reason = reason or str(error)
            if not reason:
                break
        return reason

    def _get(self, classes: frozenset[str], uids: Sequence[str], begin: Begin) -> str:
        association, reasons = self._getter(classes), list[str]()

        def store(context: Context, command: CommandSet) -> None:
            status = self._store(association, context, command, begin, reasons)
            association.send(context.context_id, response(command, status))

        try:
            answer = get(association, self.next_message_id(), uids, store)
        except AssociationEnded:
            self._drop_getting()
            raise InstanceUnconfirmed(f"{self.name} broke off while images were fetched") from None
        except BaseException:  # the archive is full, or a person interrupts: the rest of the message was not read
            self._drop_getting()
            raise
        if reasons:
            return reasons[0]
        return "" if answer.status == SUCCESS else f"{self.name}: {answered('C-GET', answer.status)}"

    def _store(
        self, association: Association, context: Context, command: CommandSet, begin: Begin, reasons: list[str]
    ) -> int:
        """Store one image; return the Status for its C-STORE response."""
        heading = Heading(
            command.text(Element.AFFECTED_SOP_CLASS_UID) or context.abstract_syntax,
            command.text(Element.AFFECTED_SOP_INSTANCE_UID),
            context.transfer_syntax,
            self.ae_title,
        )
        self._usual.note(heading.sop_class_uid)
        incoming = begin(heading)
        try:
            for data in association.data_set():
                incoming.write(data)
            incoming.accept()
            self._has_got = True
        except InvalidDataSet as error:
            reasons.append(str(error))
            return DOES_NOT_MATCH_SOP_CLASS
        finally:
            incoming.discard()
        return SUCCESS

    def _getter(self, classes: frozenset[str]) -> Association:
        """Return an Association on which the PACS may send images of these SOP Classes."""
        if self._getting is not None and classes <= self._getting[0] and self._getting[1].is_established:
            return self._getting[1]
        self._drop_getting(release=True)
        contexts: list[tuple[str, Sequence[str]]] = [(STUDY_ROOT.get_uid, NATIVE[:2])]
        contexts += contexts_as_stored(classes)
        association = self.request(contexts, as_scp=sorted(classes))
        accepted = {context.abstract_syntax for context in association.contexts.values()}
        refused = [uid for uid in classes if uid not in accepted or not association.we_are_scp.get(uid, True)]
        if refused or STUDY_ROOT.get_uid not in accepted:
            association.release()
            of_it = f" of SOP Class {refused[0]}" if refused else ""
            raise NothingAccepted(f"{self.name} does not give this node images{of_it} by C-GET")
        self._getting = classes, association
        return association

    def _move(self, uids: Sequence[str]) -> str:
        """Let the PACS send images to this node, and wait until it says that it has."""
        is_fresh = self._asking is None
        try:
            return self._outcome_of_move(self._move_once(uids))
        except InstanceUnconfirmed:
            if is_fresh:
                raise
            return self._outcome_of_move(self._move_once(uids))

    def _move_once(self, uids: Sequence[str]) -> CommandSet:
        association, message_id = self.asker(), self.next_message_id()
        if not self.moves:
            raise DestinationRefuses(f"{self.name} does not let this node use C-MOVE any more")
        self._listen()
        context = context_of(association, STUDY_ROOT.move_uid)
        request: dict[Element, str | int] = {
            Element.AFFECTED_SOP_CLASS_UID: STUDY_ROOT.move_uid,
            Element.COMMAND_FIELD: Field.C_MOVE_RQ,
            Element.MESSAGE_ID: message_id,
            Element.PRIORITY: 0,
            Element.MOVE_DESTINATION: self._local.ae_title,
        }
        try:
            association.send(context.context_id, encode(request, data_set=True), retrieve_identifier(uids, context))
            while True:
                _, answer = association.read_command()
                association.skip_data_set()
                association.require_answer(answer, message_id)
                if not is_pending(answer.status):
                    return answer
        except AssociationEnded:
            self.drop_asking()
            raise InstanceUnconfirmed(f"{self.name} broke off while it sent images") from None
        except KeyboardInterrupt:
            self.drop_asking()
            raise

    def _outcome_of_move(self, answer: CommandSet) -> str:
        """Return why not all came.  A PACS that does not know this node may answer with any failure."""
        if answer.status == SUCCESS:
            self._fruitless = 0
            return ""
        said = answered("C-MOVE", answer.status)
        self._fruitless = 0 if answer.number(Element.COMPLETED) else self._fruitless + 1
        if answer.status == MOVE_DESTINATION_UNKNOWN or self._fruitless >= _FRUITLESS:
            raise DestinationRefuses(f"{self.name} cannot send images to this node ({said}): set there {self._reach}")
        return f"{self.name}: {said}" + (f"; check that {self._reach} is set there" if self._fruitless else "")

    def _drop_getting(self, *, release: bool = False) -> None:
        if self._getting is not None:
            association = self._getting[1]
            self._getting = None
            if release:
                association.release()
            else:
                association.abort(block=False)
