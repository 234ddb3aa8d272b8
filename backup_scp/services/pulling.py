"""Fetch from another PACS what this archive does not have, newest study first.

An image counts as held when the index has it under its three UIDs and its file is not known to be damaged; it counts as
fetched when the index has it afterwards, whatever the PACS says.  A second run asks again and fetches the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from backup_scp.dicom.attributes import BY_KEYWORD
from backup_scp.dicom.query.information_model import Condition, Level, Query, SingleValue
from backup_scp.dicom.uids import is_like_uid
from backup_scp.errors import (
    BackupSCPError,
    DestinationRefuses,
    DestinationUnavailable,
    InstanceUnconfirmed,
    Unavailable,
)
from backup_scp.machine import clock
from backup_scp.ports import (
    IMPORT,
    Arrival,
    Heading,
    Incoming,
    Index,
    InstanceKey,
    Progress,
    PullSource,
    RemoteImage,
    RemoteSeries,
    RemoteStudy,
    StoredVersion,
)
from backup_scp.services.ingest import Ingest
from backup_scp.services.pull_result import MissingStudy, Pulled
from backup_scp.services.study_listing import StudyListing
from backup_scp.services.throttle import Patience, Throttle

_TRIES = 3  # of one study, while the PACS itself can be reached
_MOST_LISTED = 10_000

T = TypeVar("T")


def pull(
    source: PullSource,
    index: Index,
    ingest: Ingest,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    since: str = "",
    until: str = "",
    throttle: Throttle | None = None,
    patience: Patience | None = None,
) -> Pulled:
    """Fetch the images of another PACS that are not here.

    Parameters
    ----------
    source
        Not yet entered.
    since, until
        Study Dates as YYYYMMDD, both included; empty for no limit.
    patience
        How long to wait for the PACS when it is away; None does not wait.
    """
    run = _PullRun(source, index, ingest, throttle or Throttle(0), patience or Patience(0))
    run.on_progress = on_progress
    try:
        run.run(since, until)
    except KeyboardInterrupt:
        run.done.interrupted = True
    return run.done


class _PullStopped(Exception):  # noqa: N818 - no error: the end of pulling
    """Pulling must end; the text says why."""


@dataclass(slots=True)
class _Study:
    """What is known of one study.

    Attributes
    ----------
    fetched
        Images that came in this run, with their sizes.
    reasons
        Why images are missing; the first one is told.
    is_ended
        Whether nothing is left to be tried.
    """

    listed: RemoteStudy
    tried: int = 0
    fetched: dict[InstanceKey, int] = field(default_factory=dict)
    held: int = 0
    missing: int = 0
    reasons: list[str] = field(default_factory=list)
    is_ended: bool = False

    def begin_again(self) -> None:
        self.tried += 1
        self.held = self.missing = 0
        self.reasons = []

    def lack(self, images: int, reason: str) -> None:
        self.missing += images
        self.reasons.append(reason)


class _PullRun:
    """One running pull."""

    on_progress: Callable[[Progress], None]

    def __init__(
        self, source: PullSource, index: Index, ingest: Ingest, throttle: Throttle, patience: Patience
    ) -> None:
        self._source = source
        self._index = index
        self._here_already = index.seen_by(source.here)
        self._ingest = ingest
        self._throttle = throttle
        self._patience = patience
        self._is_open = False
        self._has_answered = False
        self._has_damaged = index.count_damaged() > 0
        self._total = self._seen = 0  # images, as the PACS counts them
        self.done = Pulled(source.name)

    def run(self, since: str, until: str) -> None:
        """List all studies, then compare and fetch one after the other."""
        try:
            listing = StudyListing(
                self._source.name, lambda span, keep: self._ask(lambda: self._source.studies(span, keep)), since, until
            )
            studies = listing.studies(clock.now().date())
            self.done.studies, self.done.doubts = len(studies), listing.doubts
            self._total = sum(study.images or 0 for study in studies)
            for listed in studies:
                study = _Study(listed)
                try:
                    self._pull(study)
                finally:
                    self._count(study)
        except (_PullStopped, Unavailable) as error:
            self.done.stopped = str(error)
        finally:
            self._close()

    # -- the other side may be away ----------------------------------------------------------------------------------

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask until there is an answer; raise ``_PullStopped`` when there is none in time."""
        while True:
            try:
                self._open()
                answer = question()
            except (DestinationUnavailable, InstanceUnconfirmed) as error:
                self._reconnect(error)
            else:
                self._has_answered = True
                self._patience.over()
                return answer

    def _reconnect(self, error: BackupSCPError) -> None:
        """Wait until the PACS can be reached again; raise ``_PullStopped`` when it cannot, in time."""
        while True:
            self._close()
            is_mistake = isinstance(error, DestinationRefuses) and not self._has_answered
            if is_mistake or not self._patience.pause(str(error)):
                raise _PullStopped(str(error)) from error
            try:
                self._open()
            except DestinationUnavailable as another:
                error = another
            else:
                return

    def _open(self) -> None:
        if not self._is_open:
            self._source.__enter__()
            self._is_open = True

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._source.__exit__(None, None, None)

    # -- one study ---------------------------------------------------------------------------------------------------

    def _pull(self, study: _Study) -> None:
        """Compare one study and fetch what is missing; again when the PACS breaks off in the middle."""
        listed, uid = study.listed, study.listed.study_instance_uid
        if not is_like_uid(uid):
            study.lack(listed.images or 1, f"{self._source.name} lists it under {uid[:64]!a}, which is no UID")
            study.tried = _TRIES
        while study.tried < _TRIES:
            self._ask(lambda: None)  # it may have to be opened again
            study.begin_again()
            try:
                self._compare(study)
                break
            except (DestinationUnavailable, InstanceUnconfirmed) as error:
                if isinstance(error, DestinationRefuses) and not (self.done.fetched or study.fetched):
                    raise _PullStopped(str(error)) from error
                if study.tried == _TRIES:
                    self._close()
                    study.lack(max(1, (listed.images or 0) - study.held - len(study.fetched)), str(error))
                else:
                    self._reconnect(error)
        study.is_ended = True

    def _compare(self, study: _Study) -> None:
        answers = self._source.series(study.listed.study_instance_uid)
        for series in answers.found:
            self._series(study, series)
        found, counted = study.held + study.missing + len(study.fetched), study.listed.images
        if found == 0 or found < (counted or 0) or (answers.cut and counted is None):
            said = answers.cut or f"it counts {'no' if counted is None else f'{counted:,}'} images and lists {found:,}"
            study.lack(max((counted or 0) - found, 1), f"{self._source.name} does not list all of it: {said}")

    def _series(self, study: _Study, series: RemoteSeries) -> None:
        """Compare the images of a series with those here, and fetch what is missing; the whole series when in doubt.

        It is in doubt when the PACS counts more images than it lists, lists none, or says that it cuts its answers.
        """
        answers = self._source.images(series)
        listed = {image.key: image for image in answers.found}
        before = self._here(series)
        lacking = [image for key, image in listed.items() if key not in before]
        expected = max(series.images or 0, len(listed))
        is_clear = len(listed) == expected > 0 and not answers.cut
        held = before.keys() & listed.keys() if is_clear else before.keys()
        study.held += len(held - study.fetched.keys())
        self._show(study)
        if not lacking and (is_clear or (expected and len(before) >= expected)):
            return
        by_series = not lacking or (study.tried == 1 and not (is_clear and held))
        try:
            if by_series:
                reason = self._source.fetch_series(series, answers.found, self._begin)
            else:
                reason = self._fetch_one_by_one(lacking)
        finally:  # also when it breaks off, or is interrupted
            after = self._here(series)
            came = {key: held.size_bytes for key, held in after.items() if key not in before}
            study.fetched |= came
        missing = sum(image.key not in after for image in lacking)
        if not is_clear:
            missing = max(missing, expected - len(after), int(not after))
        if missing:
            sent = f"{self._source.name} says that it was sent{self._source.if_lost}"
            study.lack(missing, reason or answers.cut or sent)
        if came:
            self._patience.over()
        self._show(study)

    def _fetch_one_by_one(self, images: Sequence[RemoteImage]) -> str:
        """Fetch images; return why not all came.  One at which the PACS breaks off does not stop the others."""
        reasons, broken = list[str](), 0
        for image in images:
            try:
                reasons.append(self._source.fetch_image(image, self._begin))
                broken = 0
            except InstanceUnconfirmed as error:
                broken += 1
                if broken == _TRIES:
                    raise
                reasons.append(str(error))
        return next(filter(None, reasons), "")

    # -- here --------------------------------------------------------------------------------------------------------

    def _here(self, series: RemoteSeries) -> dict[InstanceKey, StoredVersion]:
        """Return the images of a series that are here and whose files are not known to be damaged."""
        uids = (("StudyInstanceUID", series.study_instance_uid), ("SeriesInstanceUID", series.series_instance_uid))
        conditions = tuple(Condition(BY_KEYWORD[keyword], SingleValue(uid)) for keyword, uid in uids)
        held = self._here_already.retrieve(Query(Level.SERIES, conditions))
        damaged = self._has_damaged and {one.location for one in held if self._index.is_damaged(one.location)}
        return {
            InstanceKey(one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid): one
            for one in held
            if not damaged or one.location not in damaged
        }

    def _begin(self, heading: Heading) -> Incoming:
        return _Staged(self._ingest, heading, self._source, self._throttle)

    def _count(self, study: _Study) -> None:
        done = self.done
        done.held += study.held
        done.fetched += len(study.fetched)
        done.size_bytes += sum(study.fetched.values())
        done.missing += study.missing
        if not study.missing:
            done.complete += study.is_ended
        elif len(done.incomplete) < _MOST_LISTED:
            listed = study.listed
            done.incomplete.append(
                MissingStudy(listed.study_instance_uid, listed.date, study.missing, study.reasons[0], listed.patient_id)
            )
        self._seen += max(study.listed.images or 0, study.held + len(study.fetched))

    def _show(self, study: _Study) -> None:
        there = study.held + len(study.fetched)
        size_bytes = self.done.size_bytes + sum(study.fetched.values())
        self.on_progress(Progress(self._seen + there, max(self._total, self._seen + there), size_bytes))


class _Staged:
    """An image that arrives, as ``ports.Incoming``."""

    def __init__(self, ingest: Ingest, heading: Heading, source: PullSource, throttle: Throttle) -> None:
        self._ingest = ingest
        self._source = source
        self._throttle = throttle
        self._file = ingest.begin(heading)

    def write(self, data: bytes | memoryview) -> None:
        """See ``ports.Incoming``: it waits here while the limit is exceeded, so the other side sends more slowly."""
        self._file.write(data)
        self._throttle.wait(len(data))

    def accept(self) -> None:
        """See ``ports.Incoming``."""
        source = self._source
        self._ingest.accept(
            self._file,
            Arrival(clock.now(), IMPORT, source.ae_title, address=source.address, site=source.site),
        )
        if self._ingest.due.many.is_set():
            self._ingest.checkpoint()

    def discard(self) -> None:
        """See ``ports.Incoming``."""
        self._file.discard()
