"""A PACS whose images are fetched: listed by C-FIND, brought by C-GET or C-MOVE (PS3.4 C.4.1 to C.4.3, Study Root)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Self, TypeVar

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import BY_KEYWORD, Attribute
from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dicom.uids import is_like_uid
from backup_scp.dimse.association.association import Association, AssociationEnded, Context, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE, VERIFICATION
from backup_scp.dimse.messages.command_set import CommandSet, Element, Field, encode, response
from backup_scp.dimse.messages.dimse_status import DOES_NOT_MATCH_SOP_CLASS, MOVE_DESTINATION_UNKNOWN, SUCCESS
from backup_scp.dimse.scu.query_scu import find, number_of, text_of
from backup_scp.dimse.scu.retrieve_scu import context_of, get, is_pending, retrieve_identifier
from backup_scp.dimse.scu.wanted_contexts import MOST_CLASSES, UsualClasses, contexts_as_stored
from backup_scp.errors import (
    DestinationRefuses,
    DestinationUnavailable,
    InstanceUnconfirmed,
    InvalidDataSet,
    InvalidIdentifier,
    NothingAccepted,
)
from backup_scp.ports import (
    Answers,
    Begin,
    Heading,
    InstanceKey,
    KeepStudy,
    RemoteAE,
    RemoteImage,
    RemoteSeries,
    RemoteStudy,
    Span,
    do_nothing,
)

_SERVICES = (STUDY_ROOT.find_uid, STUDY_ROOT.get_uid, STUDY_ROOT.move_uid, VERIFICATION)
_STUDY, _DATE, _TIME = (BY_KEYWORD[name] for name in ("StudyInstanceUID", "StudyDate", "StudyTime"))
_SERIES, _IMAGE, _SOP_CLASS = (BY_KEYWORD[name] for name in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"))
_IN_STUDY, _IN_SERIES = (BY_KEYWORD[f"NumberOf{level}RelatedInstances"] for level in ("Study", "Series"))

_FRUITLESS = 3  # C-MOVEs in a row after which nothing arrived

T = TypeVar("T")
Keys = Iterable[tuple[Attribute, str]]


class RemoteAESource:
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
        self.name, self.ae_title, self.address, self.site = remote.name, remote.ae_title, remote.host, remote.site
        self._local = local
        self._remote = remote
        self._reach = how_to_reach_us
        self._listen = listen
        self._asking: Association | None = None  # C-FIND and C-MOVE
        self._getting: tuple[frozenset[str], Association] | None = None
        self._gets = self._moves = False
        self._fruitless = 0
        self._usual = UsualClasses()
        self._message_id = 0

    @property
    def if_lost(self) -> str:
        """See ``ports.PullSource``."""
        return ", and it is not here" + ("" if self._gets else f": check that {self._reach} is set there")

    def __enter__(self) -> Self:
        """Ask the PACS which services it offers."""
        self._asking = association = self._request([(service, NATIVE[:2]) for service in _SERVICES])
        offered = {context.abstract_syntax for context in association.contexts.values()}
        self._gets, self._moves = STUDY_ROOT.get_uid in offered, STUDY_ROOT.move_uid in offered
        lacking = "" if STUDY_ROOT.find_uid in offered else "C-FIND"
        if not (self._gets or self._moves):
            lacking = " and ".join(filter(None, (lacking, "C-GET or C-MOVE")))
        if lacking:
            self.__exit__()
            raise DestinationRefuses(
                f"{self.name} does not let this node use {lacking}: allow it there for AE title {self._local.ae_title}"
            )
        return self

    def __exit__(self, *exc: object) -> None:
        asking, getting = self._asking, self._getting
        self._asking = self._getting = None
        for association in (asking, getting and getting[1]):
            if association is not None:
                association.release()

    # -- listing -----------------------------------------------------------------------------------------------------

    def studies(self, span: Span, keep: KeepStudy) -> Answers[RemoteStudy]:
        """See ``ports.PullSource``."""
        keys = [(_STUDY, ""), (_DATE, _range(span.first, span.last)), (_TIME, _range(span.from_time, span.to_time))]

        def listed(answer: data_set.Elements) -> RemoteStudy | None:
            date, time, images = (text_of(answer, key) for key in (_DATE, _TIME, _IN_STUDY))
            study = RemoteStudy(text_of(answer, _STUDY), date, time, number_of(images))
            return study if keep(study) else None

        return self._find("STUDY", [*keys, (_IN_STUDY, "")], listed)

    def series(self, study_instance_uid: str) -> Answers[RemoteSeries]:
        """See ``ports.PullSource``; answers about other studies, of a PACS that ignores the key, are left out."""

        def listed(answer: data_set.Elements) -> RemoteSeries | None:
            series, is_asked = text_of(answer, _SERIES), text_of(answer, _STUDY) in ("", study_instance_uid)
            images = number_of(text_of(answer, _IN_SERIES))
            return RemoteSeries(study_instance_uid, series, images) if is_asked and is_like_uid(series) else None

        keys = [(_STUDY, study_instance_uid), (_SERIES, ""), (_IN_SERIES, "")]
        return self._find("SERIES", keys, listed)

    def images(self, series: RemoteSeries) -> Answers[RemoteImage]:
        """See ``ports.PullSource``; answers about other series are left out."""
        study_uid, series_uid, _ = series

        def listed(answer: data_set.Elements) -> RemoteImage | None:
            uid, is_asked = text_of(answer, _IMAGE), text_of(answer, _SERIES) in ("", series_uid)
            if not is_asked or not is_like_uid(uid):
                return None
            return RemoteImage(InstanceKey(study_uid, series_uid, uid), text_of(answer, _SOP_CLASS))

        keys = [(_STUDY, study_uid), (_SERIES, series_uid), (_IMAGE, ""), (_SOP_CLASS, "")]
        return self._find("IMAGE", keys, listed)

    def _find(self, level: str, keys: Keys, listed: Callable[[data_set.Elements], T | None]) -> Answers[T]:
        """Ask once more on a new Association: the PACS may have closed one that was idle while images came."""
        is_fresh = self._asking is None
        try:
            return self._find_once(level, keys, listed)
        except DestinationUnavailable:
            if is_fresh:
                raise
            return self._find_once(level, keys, listed)

    def _find_once(self, level: str, keys: Keys, listed: Callable[[data_set.Elements], T | None]) -> Answers[T]:
        found: list[T] = []
        total, status = 0, SUCCESS

        def answers() -> Iterable[data_set.Elements]:
            nonlocal status
            status = yield from find(association, context, self._next_message_id(), level, keys)

        try:
            association = self._asker()
            context = context_of(association, STUDY_ROOT.find_uid)
            for answer in answers():
                total += 1
                if (one := listed(answer)) is not None:
                    found.append(one)
        except (AssociationEnded, InvalidDataSet, InvalidIdentifier) as error:
            self._drop_asking()
            said = str(error) or "it broke off"
            raise DestinationUnavailable(f"{self.name} did not answer C-FIND: {said}") from None
        except KeyboardInterrupt:
            self._drop_asking()
            raise
        return Answers(found, total, "" if status == SUCCESS else _said("C-FIND", status))

    # -- fetching ----------------------------------------------------------------------------------------------------

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
        reason = ""
        if self._gets:
            is_known = bool(classes) and all(map(is_like_uid, classes))
            for some in [classes] if is_known else self._usual.groups():
                try:
                    reason = self._get(some, uids, begin)
                except NothingAccepted as error:
                    reason = reason or str(error)
                if not reason:
                    return ""
        try:
            return self._move(uids) if self._moves else reason
        except DestinationRefuses:
            if reason:
                return reason
            raise

    def _get(self, classes: frozenset[str], uids: Sequence[str], begin: Begin) -> str:
        association, reasons = self._getter(classes), list[str]()

        def store(context: Context, command: CommandSet) -> None:
            status = self._store(association, context, command, begin, reasons)
            association.send(context.context_id, response(command, status))

        try:
            answer = get(association, self._next_message_id(), uids, store)
        except AssociationEnded:
            self._drop_getting()
            raise InstanceUnconfirmed(f"{self.name} broke off while images were fetched") from None
        except BaseException:  # the archive is full, or a person interrupts: the rest of the message was not read
            self._drop_getting()
            raise
        if reasons:
            return reasons[0]
        return "" if answer.status == SUCCESS else f"{self.name}: {_said('C-GET', answer.status)}"

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
        association = self._request(contexts, as_scp=sorted(classes))
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
        association, message_id = self._asker(), self._next_message_id()
        if not self._moves:
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
            self._drop_asking()
            raise InstanceUnconfirmed(f"{self.name} broke off while it sent images") from None
        except KeyboardInterrupt:
            self._drop_asking()
            raise

    def _outcome_of_move(self, answer: CommandSet) -> str:
        said = _said("C-MOVE", answer.status)
        self._fruitless = 0 if answer.number(Element.COMPLETED) or answer.status == SUCCESS else self._fruitless + 1
        if answer.status == MOVE_DESTINATION_UNKNOWN or self._fruitless >= _FRUITLESS:
            raise DestinationRefuses(f"{self.name} cannot send images to this node ({said}): set there {self._reach}")
        return "" if answer.status == SUCCESS else f"{self.name}: {said}"

    # -- Associations ------------------------------------------------------------------------------------------------

    def _asker(self) -> Association:
        """Return the Association for C-FIND and C-MOVE; a new one when the PACS has ended it."""
        if self._asking is None:
            self.__enter__()
        assert self._asking is not None, "entered"  # noqa: S101 - for the type checker
        return self._asking

    def _request(self, contexts: Iterable[tuple[str, Iterable[str]]], as_scp: Iterable[str] = ()) -> Association:
        remote = self._remote
        return Association.request_from(
            local=self._local,
            called=remote.ae_title,
            host=remote.host,
            port=remote.port,
            contexts=contexts,
            tls=remote.tls,
            as_scp=as_scp,
        )

    def _drop_asking(self) -> None:
        if self._asking is not None:
            self._asking.abort(block=False)
            self._asking = None

    def _drop_getting(self, *, release: bool = False) -> None:
        if self._getting is not None:
            association = self._getting[1]
            self._getting = None
            if release:
                association.release()
            else:
                association.abort(block=False)

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id


def _range(first: str, last: str) -> str:
    """Return the key for Range Matching (PS3.4 C.2.2.2.5); one day or one moment as a Single Value."""
    return first if first == last else f"{first}-{last}"


def _said(service: str, status: int) -> str:
    return f"it answered {service} with status 0x{status:04X}"
