"""The way back: verified files to a remote AE or a folder, newest study first, with an outcome for each instance."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from backup_scp.errors import (
    ArchiveUnavailable,
    BackupSCPError,
    Damaged,
    DestinationUnavailable,
    IndexUnavailable,
    InstanceRefused,
    InvalidSelection,
)
from backup_scp.outgoing import Loaded, Outgoing
from backup_scp.ports import Archive, Checked, Destination, Held, Index, Meanwhile, Progress, Reference, Selection

log = logging.getLogger(__name__)

Commit = Callable[[Sequence[Reference]], Mapping[Reference, int]]
"""Asks the destination to commit: 0 for what it has committed, else a Failure Reason; it need not name everything."""


class Delivery(StrEnum):
    """What became of one instance; the three kinds of completed sub-operations, PS3.4 C.4.2.1.6 to C.4.2.1.8."""

    SENT = "sent"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instance at its destination.

    Attributes
    ----------
    reason
        One sentence where it failed or was taken with a warning.
    cause
        The error, where it failed.
    """

    held: Held
    status: Delivery
    reason: str = ""
    cause: BackupSCPError | None = None


Record = Callable[[Iterable[Checked]], None]
"""``Index.record_verification``."""


def retrieve(
    outgoing: Outgoing, held: Sequence[Held], destination: Destination, record: Record
) -> Generator[Outcome, None, None]:
    """Send versions to a destination that was entered and prepared; yield the outcome of each, in order.

    The bytes that are sent are those that were compared: a damaged file fails, never leaves, and is recorded.  Where
    the destination goes away, that instance and all further ones fail.
    """
    for number, one in enumerate(outgoing.in_order(held), 1):
        outcome = _deliver(one, destination, outgoing.read_ahead)
        if isinstance(outcome.cause, Damaged):
            _record(Checked(one.held.location, outcome.reason, one.began_at), record)
        yield outcome
        if isinstance(outcome.cause, DestinationUnavailable):
            yield from (Outcome(unsent, Delivery.FAILED, outcome.reason, outcome.cause) for unsent in held[number:])
            return


def _deliver(loaded: Loaded, destination: Destination, meanwhile: Meanwhile) -> Outcome:
    held = loaded.held
    try:
        warning = destination.send(loaded.required(), held, meanwhile)
    except (ArchiveUnavailable, Damaged, InstanceRefused, DestinationUnavailable) as error:
        return _failed(held, destination, error)
    except OSError as error:  # the file was whole a moment ago
        reason = error.strerror or type(error).__name__
        return _failed(held, destination, ArchiveUnavailable(f"A stored file cannot be read ({reason})"))
    return Outcome(held, Delivery.WARNING if warning else Delivery.SENT, warning or "")


def _failed(held: Held, destination: Destination, error: BackupSCPError) -> Outcome:
    log.warning("SOP Instance %s not sent to %s: %s", held.sop_instance_uid, destination.name, error)
    return Outcome(held, Delivery.FAILED, str(error), error)


def _record(checked: Checked, record: Record) -> None:
    try:
        record([checked])
    except IndexUnavailable as error:
        log.error("%s; it could not be recorded: %s", checked.damage, error)


class Journal:
    """What one destination has confirmed, one line each: SHA-256 and location.

    It is only ever appended to; a line that a crash cut off does not count.

    Parameters
    ----------
    path
        Its file; made with the first confirmation.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        *lines, cut_off = _text_of(path).split("\n")
        self._confirmed = set(lines)
        self._line_end = "\n" if cut_off else ""

    def __contains__(self, held: Held) -> bool:
        return self._line(held) in self._confirmed

    def confirm(self, held: Held) -> None:
        """Note an instance as confirmed; a journal that cannot be written costs a second sending, not the first."""
        self._confirmed.add(self._line(held))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(f"{self._line_end}{self._line(held)}\n")
        except OSError as error:
            log.warning("%s cannot be written (%s): the next restore will send again", self._path, error.strerror)
            return
        self._line_end = ""

    def forget(self) -> None:
        """Start over."""
        self._path.unlink(missing_ok=True)
        self._confirmed = set()
        self._line_end = ""

    @staticmethod
    def _line(held: Held) -> str:
        return f"{held.sha256}  {held.location}"


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        log.warning("%s cannot be read (%s): what it holds will be sent again", path, error.strerror)
        return ""


class Throttle:
    """Holds the mean rate of what was sent below a limit.

    Parameters
    ----------
    mb_per_s
        The limit, in million bytes a second; 0 for none.
    """

    def __init__(
        self,
        mb_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_s = mb_per_s * 1e6
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    def wait(self, sent_bytes: int) -> None:
        """Sleep until what was sent is within the limit; time that was not used is not saved up."""
        if not self._bytes_per_s:
            return
        now = self._clock()
        self._free_at = self._free_at + sent_bytes / self._bytes_per_s
        if self._free_at > now:
            self._sleep(self._free_at - now)
        else:
            self._free_at = now


@dataclass(slots=True)
class Restore:
    """What a restore did.

    Attributes
    ----------
    selected
        How many versions were asked for.
    confirmed_before
        How many of them an earlier run had confirmed; they were not sent again.
    sent, warnings
        How many the destination has confirmed now; with a warning, in ``warnings``.
    failed
        The outcome of each that failed.
    stopped
        Why it ended early; empty when every instance was tried.
    committed
        How many of those sent the destination has committed (PS3.4 J), where it was asked.
    uncommitted
        Those sent of which it has not said whether it commits them; why, in ``no_commitment``.
    """

    selected: int
    confirmed_before: int = 0
    sent: int = 0
    size_bytes: int = 0
    warnings: list[Outcome] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)
    stopped: str = ""
    committed: int = 0
    uncommitted: list[Held] = field(default_factory=list)
    no_commitment: str = ""


def restore(
    archive: Archive,
    index: Index,
    selection: Selection,
    destination: Destination,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    throttle: Throttle | None = None,
    journal: Journal | None = None,
    commit: Commit | None = None,
) -> Restore:
    """Send what was selected to a destination.

    On return every instance counted as sent has been confirmed by the destination, and stands in the journal.

    Parameters
    ----------
    destination
        Not yet entered.
    journal
        What it confirmed before: that is not sent again.
    commit
        Asked about what was sent now; what the destination says it has not is counted as failed.

    Raises
    ------
    DestinationUnavailable
        It could not be reached; nothing was sent.
    InvalidSelection
        A digest that no version has, or several have; nothing was sent.
    IndexUnavailable
    """
    selected = index.select(selection)
    _require_one_each(selection.digests, selected)
    due = [held for held in selected if journal is None or held not in journal]
    done = Restore(len(selected), confirmed_before=len(selected) - len(due))
    if not due:
        return done
    total_bytes = sum(held.size_bytes for held in due)
    with destination, Outgoing(archive, by_sha256=True) as outgoing:  # the journal tells of SHA-256
        due = list(destination.prepare(due))
        sent = []
        for count, outcome in enumerate(retrieve(outgoing, due, destination, index.record_verification), 1):
            _count(done, outcome, journal if commit is None else None)
            if outcome.cause is None:
                sent.append(outcome.held)
            on_progress(Progress(count, len(due), done.size_bytes, total_bytes))
            if throttle and outcome.cause is None:
                throttle.wait(outcome.held.size_bytes)
    if commit is not None:
        _commit(done, sent, commit, journal)
    return done


def _commit(done: Restore, sent: Sequence[Held], commit: Commit, journal: Journal | None) -> None:
    """Ask the destination about what it was sent; what it has not is sent again by the next restore."""
    references = {held: Reference(held.sop_class_uid, held.sop_instance_uid) for held in sent}
    results: Mapping[Reference, int] = {}
    try:
        results = commit(list(dict.fromkeys(references.values()))) if sent else {}
        done.no_commitment = "it has not reported in time"
    except DestinationUnavailable as error:
        done.no_commitment = str(error)
    for held, reference in references.items():
        reason = results.get(reference)
        if reason:
            sentence = f"The destination did not commit it (Failure Reason 0x{reason:04X})"
            done.sent, done.size_bytes = done.sent - 1, done.size_bytes - held.size_bytes
            done.failed.append(Outcome(held, Delivery.FAILED, sentence, InstanceRefused(sentence, reason)))
            continue
        if reason is None:
            done.uncommitted.append(held)
        done.committed += reason == 0
        if journal is not None:
            journal.confirm(held)
    if not done.uncommitted:
        done.no_commitment = ""


def _require_one_each(digests: Sequence[str], selected: Sequence[Held]) -> None:
    """Take digits for what they name only where that is certain: the same bytes, be it in two places."""
    for digits in digests:
        named = sorted({held.sha256 for held in selected if held.sha256.startswith(digits)})
        if not named:
            raise InvalidSelection(
                f"No version selected has the digest {digits}: backup-scp find --versions all lists them"
            )
        if len(named) > 1:
            raise InvalidSelection(
                f"{len(named)} versions have the digest {digits}: write more digits, {' or '.join(named[:2])}"
            )


def _count(done: Restore, outcome: Outcome, journal: Journal | None) -> None:
    if outcome.cause is not None:
        done.failed.append(outcome)
        if isinstance(outcome.cause, DestinationUnavailable):
            done.stopped = outcome.reason
        return
    done.sent += 1
    done.size_bytes += outcome.held.size_bytes
    if outcome.status is Delivery.WARNING:
        done.warnings.append(outcome)
    if journal is not None:
        journal.confirm(outcome.held)
