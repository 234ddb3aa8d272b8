"""Do ``backup-scp copies sync`` and ``verify``; without typer, so that a sync with nothing to do is quick."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backup_scp.cli.copies_report import CopiesRun, CopyOutcome, tell_run
from backup_scp.cli.interruption import INTERRUPTED, interruptible
from backup_scp.cli.output import print_json, progress
from backup_scp.cli.settings_file import open_settings
from backup_scp.errors import BackupSCPError, DestinationAway, InvalidSettings
from backup_scp.machine.heaps import share_heaps

if TYPE_CHECKING:
    from backup_scp.node.opening import OpenStores
    from backup_scp.node.settings import CopySettings, Settings
    from backup_scp.ports import Progress, VerificationResult
    from backup_scp.services.comparing import Pace
    from backup_scp.services.copying import Copying
    from backup_scp.services.ingest import Ingest

Work = Callable[..., None]
"""Works with a ``Copying`` and the number of its copy, and shows progress by ``show``."""


def sync(config: Path | None, name: str | None, *, json: bool = False, despite_alarm: bool = False) -> None:
    """Write what is due at a copy, or at all; exit with 1 when something needs a person.

    Raises
    ------
    BackupSCPError
    """

    def work(copying: Copying, number: int, show: Callable[[Progress], None]) -> None:
        copying.fill(number, show)
        copying.heal(number)

    def each(settings: Settings, wanted: Sequence[CopySettings], run: CopiesRun) -> None:
        from backup_scp.index.quiet_index import NotQuiet

        try:
            run.copies += _quietly(settings, () if despite_alarm else wanted, work)
        except NotQuiet as noticed:
            tell = run.copies.append
            _each(settings, wanted, work, "Copying", tell, despite_alarm=despite_alarm, damaged=noticed.damaged)

    _run(config, name, each, json=json)


def verify(config: Path | None, name: str | None, *, json: bool = False) -> None:
    """Read back what a copy has, or all have, and compare it; exit with 1 when something needs a person.

    Raises
    ------
    BackupSCPError
    """

    def work(copying: Copying, number: int, show: Callable[[Progress], None]) -> None:
        copying.compare(number, show)
        copying.heal(number)

    def each(settings: Settings, wanted: Sequence[CopySettings], run: CopiesRun) -> None:
        _each(settings, wanted, work, "Comparing", run.copies.append)

    _run(config, name, each, json=json)


def _run(
    config: Path | None,
    name: str | None,
    each: Callable[[Settings, Sequence[CopySettings], CopiesRun], None],
    *,
    json: bool,
) -> None:
    settings = open_settings(config)
    from backup_scp.node.copy_setup import chosen

    run = CopiesRun(stopped=INTERRUPTED)
    wanted = chosen(settings, name)
    with interruptible(lambda: _tell(run, json)):
        each(settings, wanted, run)
        run.stopped = ""
    _tell(run, json)
    sys.exit(int(any(outcome.needs_a_person for outcome in run.copies)))


def _quietly(settings: Settings, wanted: Sequence[CopySettings], work: Work) -> list[CopyOutcome]:
    """Do the work with an index that answers only while nothing is due (ADR 24).

    Raises
    ------
    NotQuiet
        Something is due.  What was done by then is what any further sync does.
    """
    from backup_scp.index.quiet_index import NotQuiet

    are_drives = all(copy.url.startswith("file:") and not copy.encrypt for copy in wanted)
    if not (wanted and are_drives and settings.index_is_embedded):
        raise NotQuiet
    outcomes: list[CopyOutcome] = []
    gc.disable()  # loaded modules stay: searching them for garbage would take a tenth of the time
    try:
        _each(settings, wanted, work, "", outcomes.append, quiet=True)
    finally:
        gc.enable()
    return outcomes


def _each(
    settings: Settings,
    wanted: Sequence[CopySettings],
    work: Work,
    label: str,
    tell: Callable[[CopyOutcome], None],
    *,
    despite_alarm: bool = False,
    damaged: Sequence[VerificationResult] = (),
    quiet: bool = False,
) -> None:
    from backup_scp.node.copy_setup import alarm_of, pace_of
    from backup_scp.node.opening import OpenStores
    from backup_scp.services.ingest import Ingest
    from backup_scp.watch.alarm import go_on

    if not quiet:
        share_heaps()  # the threads that seal and send would have one each
    with ExitStack() as stack:
        storage = stack.enter_context(OpenStores(settings, quiet=quiet))
        ingest = stack.enter_context(Ingest(storage.archive, storage.index))
        if not quiet:
            from backup_scp.node.audit_setup import reporting_on

            stack.enter_context(reporting_on(storage))
        if damaged:
            storage.index.record_verification(damaged)
        if despite_alarm:
            go_on(storage.index)
        alarm = alarm_of(settings, storage)
        for copy in wanted:
            pace = pace_of(copy, alarm)
            with nullcontext(_show_nothing) if quiet else progress(f"{label} {copy.name}") as show:
                _one(settings, copy, storage, ingest, pace, partial(work, show=show), tell=tell)


def _show_nothing(_: Progress) -> None:
    pass


def _one(
    settings: Settings,
    copy: CopySettings,
    storage: OpenStores,
    ingest: Ingest,
    pace: Pace,
    work: Callable[[Copying, int], None],
    *,
    tell: Callable[[CopyOutcome], None],
) -> None:
    """Do the work at one copy, and tell the outcome, also of a part.

    What prevents it becomes part of the outcome, so that the others have their turn.
    """
    from backup_scp.node.copy_places import open_place
    from backup_scp.node.copy_setup import copying

    try:
        place = open_place(settings, copy, storage.index)
    except InvalidSettings as error:
        tell(CopyOutcome(copy.name, trouble=str(error)))
        return
    reports: AbstractContextManager[object] = nullcontext()
    if copy.url.startswith("dicom:"):
        from backup_scp.node.remote_aes import receives_reports

        reports = receives_reports(settings, storage.index)
    worker = copying(settings, place, storage, ingest, pace)
    trouble, is_away = "", False
    try:
        pace(0)  # before the place is touched
        with reports, place:
            work(worker, worker.register())
    except BackupSCPError as error:
        trouble, is_away = str(error), isinstance(error, DestinationAway)
    finally:
        tell(CopyOutcome(copy.name, place.medium, trouble, is_away, **asdict(worker.done)))


def _tell(run: CopiesRun, json: bool) -> None:
    if json:
        print_json(run)
    else:
        tell_run(run)
