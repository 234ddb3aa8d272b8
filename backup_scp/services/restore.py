"""Send verified images to a remote AE or a folder, with an outcome for each instance and each study.

One instance that fails does not stop a restore.  It waits for a destination that is away, silent or full, and tries
unconfirmed instances once more at the end.  Memory use is constant: it reads the index in batches, and the journal is
a file.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from backup_scp.errors import (
    BackupSCPError,
    DestinationRefuses,
    DestinationSilent,
    DestinationUnavailable,
    IndexUnavailable,
    InstanceRefused,
    InstanceUnconfirmed,
    InvalidSelection,
    NoRoom,
    NothingAccepted,
)
from backup_scp.ports import Index, Inventory, Progress, ReadableArchive, RestoreDestination, Selection, StoredVersion
from backup_scp.services.delivery import Delivery, Outcome, others_of, retrieve
from backup_scp.services.parallel_reader import ParallelReader
from backup_scp.services.restore_journal import RestoreJournal
from backup_scp.services.restore_result import (
    RequestCommitment,
    Restore,
    count_arrivals,
    forget_what_is_lacking,
    settle_commitments,
)
from backup_scp.services.throttle import Patience, SendingHours, Throttle
from backup_scp.services.worklist import Worklist

__all__ = ["RequestCommitment", "Restore", "restore"]

_MOST_PUT_OFF = 1000
_FULL = 2  # refusals for lack of room in a row that mean a full destination; a single one may be due to the instance


def restore(  # noqa: PLR0913 - each by its name
    archive: ReadableArchive,
    index: Index,
    selection: Selection | Worklist,
    destination: RestoreDestination,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    throttle: Throttle | None = None,
    hours: SendingHours | None = None,
    patience: Patience | None = None,
    journal: RestoreJournal | None = None,
    inventory: Inventory | None = None,
    commit: RequestCommitment | None = None,
) -> Restore:
    """Send the selected instances to a destination.

    On return the destination has confirmed every instance that counts as sent, and the journal lists it.

    Parameters
    ----------
    selection
        Sent newest study first; or a list, sent in its own order.
    destination
        Not yet entered.
    hours
        When images may be sent; None for always.
    patience
        How long to wait for the destination; None does not wait.
    journal
        What the destination confirmed before; it is not sent again.
    inventory
        Asks the destination whether it still has that; what it lacks is sent again.  Asks it at the end how many
        images it lists of each study that was sent now, unless it has committed the study.
    commit
        Asks the destination to commit what was sent now; what it says it lacks counts as failed.

    Raises
    ------
    InvalidSelection
        No version has a given digest, or several have it; nothing was sent.
    IndexUnavailable
        Nothing was sent.
    """
    if isinstance(selection, Selection) and selection.digests:
        _require_one_each(selection.digests, index.select(selection))
    run = _Run(archive, index, selection, destination, journal)
    run.on_progress, run.throttle, run.patience = on_progress, throttle, patience or Patience(0)
    run.hours = hours or SendingHours()
    try:
        run.survey(inventory)
        if run.due:
            run.send(commits=commit is not None)
        if commit is not None:
            settle_commitments(run.done, run.to_commit, commit, journal)
        if inventory is not None:
            count_arrivals(run.done, inventory)
    except KeyboardInterrupt:
        run.done.interrupted = True
    return run.done


class _Stopped(Exception):  # noqa: N818 - no error: the end of sending
    """Sending must end; the text says why."""


class _Run:
    """One running restore.

    Attributes
    ----------
    done
        What it did so far.
    due, due_bytes
        Number and size of the instances to send.
    to_commit
        What to ask the destination to commit: what was sent, and what it refused with a Status, since it may have that
        already.
    """

    on_progress: Callable[[Progress], None]
    throttle: Throttle | None
    patience: Patience
    hours: SendingHours

    def __init__(
        self,
        archive: ReadableArchive,
        index: Index,
        selection: Selection | Worklist,
        destination: RestoreDestination,
        journal: RestoreJournal | None,
    ) -> None:
        self._index = index
        self._selection = selection
        self._destination = destination
        self._journal = journal
        self._outgoing = ParallelReader(archive, by_sha256=True)  # the journal lists SHA-256 digests
        self._others = others_of(archive, index)
        self._put_off: list[tuple[Outcome, int]] = []  # each with ``done.sent`` of that moment
        self._full = 0  # in a row
        self._was_full = False
        self._commits = False  # without commitment, the journal lists what is confirmed at once
        self._is_second_try = False
        self.done = Restore()
        self.due = self.due_bytes = 0
        self.to_commit: list[Outcome] = []

    # -- before ------------------------------------------------------------------------------------------------------

    def survey(self, inventory: Inventory | None) -> None:
        """Count the instances to send, and tell the destination their number and size."""
        for batch in self._batches():
            self.done.select(batch)
            if self._journal is not None and inventory is not None:
                forget_what_is_lacking(self.done, batch, self._journal, inventory)
            for held in batch:
                if self._is_confirmed(held):
                    continue
                self.due += 1
                self.due_bytes += held.size_bytes
                self._destination.expect(held)
        if isinstance(self._selection, Worklist):
            self.done.unmatched = self._selection.unmatched
        if inventory is not None:
            inventory.disconnect()

    def _batches(self) -> Generator[list[StoredVersion], None, None]:
        if isinstance(self._selection, Worklist):
            return self._selection.batches(self._index)
        return self._index.select_in_batches(self._selection)

    def _is_confirmed(self, held: StoredVersion) -> bool:
        at = None if self._journal is None else self._journal.confirmed_at(held)
        if at is None:
            return False
        first, last = self.done.confirmed_at or (at, at)
        self.done.confirmed_at = min(first, at), max(last, at)
        self.done.confirmed_before += 1
        self.done.study(held).before += 1
        return True

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, *, commits: bool) -> None:
        """Send what is due; at the end try postponed instances once more."""
        self._commits = commits
        try:
            with self._destination, self._outgoing:
                for batch in self._due_batches():
                    self._send(batch)
                self._is_second_try = True
                self._send([outcome.held for outcome, _ in self._put_off])
        except (_Stopped, DestinationUnavailable, IndexUnavailable) as error:
            self.done.stopped = str(error)
        finally:
            for outcome, _ in self._put_off:
                self.done.fail(outcome)

    def _due_batches(self) -> Iterator[list[StoredVersion]]:
        journal, count = self._journal, 0
        with closing(self._batches()) as batches:
            for batch in batches:
                if due := [held for held in batch if journal is None or held not in journal]:
                    count += len(due)
                    self._expect_at_least(count)
                    yield due

    def _expect_at_least(self, count: int) -> None:
        """Count images that arrived after the survey, so that they do not hide missing ones."""
        if count > self.due:
            self.done.selected += count - self.due
            self.due = count

    def _send(self, due: Sequence[StoredVersion]) -> None:
        while due:
            self._wait_for_the_hours()
            due = self._send_until_trouble(due)

    def _wait_for_the_hours(self) -> None:
        if not self.hours.are_now:
            self._destination.disconnect()
            self.hours.wait()
            self.patience.forget()

    def _send_until_trouble(self, due: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        """Send until the hours end, or the destination fails: then wait; return what is still to be sent."""
        try:
            due = self._destination.prepare(due)
        except NothingAccepted as error:
            for held in due:
                self._fail(Outcome(held, Delivery.FAILED, str(error), error))
            return []
        except DestinationUnavailable as error:
            self._wait(error, 0)
            return due
        outcomes = retrieve(self._outgoing, due, self._destination, self._index.record_verification, self._others)
        with closing(outcomes):
            for number, outcome in enumerate(outcomes):
                step = self._settle(outcome)
                if step is None and not self.hours.are_now:
                    step = 1
                if step is not None:
                    return due[number + step :]
        return []

    def _settle(self, outcome: Outcome) -> int | None:
        """Count an outcome; after a wait return where to continue: 0 is the same instance, 1 the next one."""
        cause, step = outcome.cause, None
        if cause is None:
            self._confirm(outcome)
        elif isinstance(cause, DestinationSilent):
            self._put_off_or_fail(outcome)  # perhaps this instance is the cause
            step = self._wait(cause, 1)
        elif isinstance(cause, DestinationUnavailable) and not isinstance(cause, NothingAccepted):
            step = self._wait(cause, 0)
        elif isinstance(cause, NoRoom):
            step = self._no_room(outcome, cause)
        elif isinstance(cause, InstanceUnconfirmed):
            self._put_off_or_fail(outcome)
        else:
            self._fail(outcome)
        return step

    def _confirm(self, outcome: Outcome) -> None:
        held = outcome.held
        self.done.confirm(outcome)
        if self._journal is not None and not self._commits:
            self._journal.confirm(held, self._destination.implementation)
        if self._commits:
            self.to_commit.append(outcome)
        self._full = 0
        self._forget_put_off(held)
        self.patience.over()
        self._show()
        if self.throttle:
            self.throttle.wait(held.size_bytes)

    def _no_room(self, outcome: Outcome, cause: NoRoom) -> int | None:
        """Postpone an image; when the next one finds no room either, the destination is full: try one now and then."""
        self._full += 1
        if not self._is_second_try:
            self._put_off_or_fail(outcome)
            self._was_full = self._was_full or self._full >= _FULL
            return None if self._full < _FULL else self._wait(NoRoom(f"{cause} (it has no room)"), 1)
        is_alone = not self._was_full and bool(self.done.sent or self.done.confirmed_before)
        if is_alone or self._sent_when_put_off(outcome.held) < self.done.sent:
            self._fail(outcome)  # there was room for other instances, so this one is the cause
            return None
        return self._wait(NoRoom(f"{cause} (it has no room)"), 0)

    def _put_off_or_fail(self, outcome: Outcome) -> None:
        if self._is_second_try or len(self._put_off) >= _MOST_PUT_OFF:
            self._fail(outcome)
        else:
            self._put_off.append((outcome, self.done.sent))

    def _sent_when_put_off(self, held: StoredVersion) -> int:
        return next((sent for outcome, sent in self._put_off if outcome.held == held), self.done.sent)

    def _forget_put_off(self, held: StoredVersion) -> None:
        if self._is_second_try:
            self._put_off = [(outcome, sent) for outcome, sent in self._put_off if outcome.held != held]

    def _fail(self, outcome: Outcome) -> None:
        self._forget_put_off(outcome.held)
        self.done.fail(outcome)
        if self._commits and isinstance(outcome.cause, InstanceRefused) and outcome.cause.status:
            self.to_commit.append(outcome)
        self._show()

    def _wait(self, error: BackupSCPError, step: int) -> int:
        """Wait until it may be worth another try, then return ``step``.

        Raises
        ------
        _Stopped
            It has been too long, or a wait does not help.
        """
        # A destination that refuses before the first instance does so until a person changes its settings.
        is_mistake = isinstance(error, DestinationRefuses) and not self.done.sent
        if is_mistake or not self.patience.pause(str(error)):
            raise _Stopped(str(error)) from error
        return step

    def _show(self) -> None:
        done = self.done
        self.on_progress(Progress(done.sent + done.gaps.total(), self.due, done.size_bytes, self.due_bytes))


def _require_one_each(digests: Sequence[str], selected: Sequence[StoredVersion]) -> None:
    """Raise InvalidSelection when some digits match no selected digest, or more than one."""
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
