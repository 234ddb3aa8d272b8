"""Ask a PACS what it has, by C-FIND (PS3.4 C.4.1, Study Root)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import BY_KEYWORD, Attribute
from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dicom.uids import is_like_uid
from backup_scp.dimse.association.association import Association, AssociationEnded, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE, VERIFICATION
from backup_scp.dimse.messages.dimse_status import SUCCESS
from backup_scp.dimse.scu.query_scu import find, number_of, text_of
from backup_scp.dimse.scu.retrieve_scu import context_of
from backup_scp.errors import (
    DestinationRefuses,
    DestinationUnavailable,
    InvalidDataSet,
    InvalidIdentifier,
    NothingAccepted,
)
from backup_scp.ports import (
    SEES_ALL,
    Answers,
    InstanceKey,
    KeepStudy,
    RemoteAE,
    RemoteImage,
    RemoteSeries,
    RemoteStudy,
    Span,
)

_SERVICES = (STUDY_ROOT.find_uid, STUDY_ROOT.get_uid, STUDY_ROOT.move_uid, VERIFICATION)
_STUDY, _DATE, _TIME = (BY_KEYWORD[name] for name in ("StudyInstanceUID", "StudyDate", "StudyTime"))
_SERIES, _IMAGE, _SOP_CLASS = (BY_KEYWORD[name] for name in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"))
_PATIENT = BY_KEYWORD["PatientID"]
_IN_STUDY, _IN_SERIES = (BY_KEYWORD[f"NumberOf{level}RelatedInstances"] for level in ("Study", "Series"))

T = TypeVar("T")
Keys = Iterable[tuple[Attribute, str]]


class RemoteAEList:
    """Lists what a remote AE has; a context manager.

    Parameters
    ----------
    local, remote
        Our AE and the PACS.

    Attributes
    ----------
    gets, moves
        Whether it offers C-GET and C-MOVE; known after entering.
    """

    def __init__(self, local: LocalAE, remote: RemoteAE) -> None:
        self.name, self.ae_title, self.address, self.site = remote.name, remote.ae_title, remote.host, remote.site
        self.here = SEES_ALL
        self.gets = self.moves = False
        self._local = local
        self._remote = remote
        self._asking: Association | None = None
        self._message_id = 0

    def __enter__(self) -> Self:
        """Ask the PACS which services it offers."""
        offered: set[str] = set()
        try:
            self._asking = self.request([(service, NATIVE[:2]) for service in _SERVICES])
            offered = {context.abstract_syntax for context in self._asking.contexts.values()}
        except NothingAccepted:
            pass
        self.gets, self.moves = STUDY_ROOT.get_uid in offered, STUDY_ROOT.move_uid in offered
        lacking = "" if STUDY_ROOT.find_uid in offered else "C-FIND"
        if not (self.gets or self.moves):
            lacking = " and ".join(filter(None, (lacking, "C-GET or C-MOVE")))
        if lacking:
            self.__exit__()
            raise DestinationRefuses(
                f"{self.name} does not let this node use {lacking}: allow it there for AE title {self._local.ae_title}"
            )
        return self

    def __exit__(self, *exc: object) -> None:
        if self._asking is not None:
            self._asking.release()
            self._asking = None

    def studies(self, span: Span, keep: KeepStudy) -> Answers[RemoteStudy]:
        """See ``ports.PullSource``."""
        keys = [(_STUDY, ""), (_DATE, _range(span.first, span.last)), (_TIME, _range(span.from_time, span.to_time))]

        def listed(answer: data_set.Elements) -> RemoteStudy | None:
            date, time, images = (text_of(answer, key) for key in (_DATE, _TIME, _IN_STUDY))
            study = RemoteStudy(text_of(answer, _STUDY), date, time, number_of(images), text_of(answer, _PATIENT))
            return study if keep(study) else None

        return self._find("STUDY", [*keys, (_PATIENT, ""), (_IN_STUDY, "")], listed)

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
            status = yield from find(association, context, self.next_message_id(), level, keys)

        try:
            association = self.asker()
            context = context_of(association, STUDY_ROOT.find_uid)
            for answer in answers():
                total += 1
                if (one := listed(answer)) is not None:
                    found.append(one)
        except (AssociationEnded, InvalidDataSet, InvalidIdentifier) as error:
            self.drop_asking()
            said = str(error) or "it broke off"
            raise DestinationUnavailable(f"{self.name} did not answer C-FIND: {said}") from None
        except KeyboardInterrupt:
            self.drop_asking()
            raise
        return Answers(found, total, "" if status == SUCCESS else answered("C-FIND", status))

    # -- Associations ------------------------------------------------------------------------------------------------

    def asker(self) -> Association:
        """Return the Association for C-FIND and C-MOVE; a new one when the PACS has ended it."""
        if self._asking is None:
            self.__enter__()
        assert self._asking is not None, "entered"  # noqa: S101 - for the type checker
        return self._asking

    def request(self, contexts: Iterable[tuple[str, Iterable[str]]], as_scp: Iterable[str] = ()) -> Association:
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

    def drop_asking(self) -> None:
        if self._asking is not None:
            self._asking.abort(block=False)
            self._asking = None

    def next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id


def _range(first: str, last: str) -> str:
    """Return the key for Range Matching (PS3.4 C.2.2.2.5); one day or one moment as a Single Value."""
    return first if first == last else f"{first}-{last}"


def answered(service: str, status: int) -> str:
    """Return the end of a sentence about a PACS that answered with a failure."""
    return f"it answered {service} with status 0x{status:04X}"
