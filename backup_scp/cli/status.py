"""backup-scp status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from backup_scp import clock
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import LIST_LIMIT, count, expected, moment, print_json, say, size
from backup_scp.errors import ArchiveUnavailable

if TYPE_CHECKING:
    from backup_scp.forecast import Forecast
    from backup_scp.ports import Archive, Holdings, OwedReports, Rejection, Remark, Storm, Task, Trouble
    from backup_scp.settings import Settings

_JSON_LIMIT = 1000
_OVERDUE = timedelta(days=1)

_MEANINGS = {
    "unparsed": "its content cannot be read as DICOM; kept as it came, found by its UIDs only",
    "clash": "another sender used this UID for other content; both are kept, the first one answers queries",
    "damaged": "its file changed or is gone; send it again from the console or another archive",
}


@dataclass(frozen=True, slots=True)
class Status:
    """What ``status --json`` prints."""

    ae_title: str
    home: str
    holdings: Holdings
    free_bytes: int
    forecast: Forecast
    refusing: str
    trouble: Trouble | None
    remarks: list[Remark]
    rejections: list[Rejection]
    commitments: list[OwedReports]
    tasks: dict[str, Task]
    storms: list[Storm]
    needs_a_person: bool


def status(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Show what is held, what is odd, and who was turned away.

    Works beside the running node, and without it. Exit code 1 when a person must act: a stored file is damaged or
    missing, nothing can be stored now, one sender changed many studies, or a configured remote AE has not taken a
    Storage Commitment report for a day. Flagged files and rejected callers are shown, and are no failure.
    """
    settings = settings_of(context, config)
    from backup_scp import node
    from backup_scp.forecast import forecast
    from backup_scp.storage import Storage

    limit = _JSON_LIMIT if json else LIST_LIMIT
    with Storage(settings) as storage:
        holdings = storage.index.holdings()
        commitments = storage.index.commitments.owed()
        free_bytes = storage.archive.free_bytes()
        trouble = storage.index.archive_trouble()
        refusing = _refusing(storage.archive, trouble)
        storms = node.storms(settings, storage.index)
        found = Status(
            settings.node.ae_title,
            str(settings.home),
            holdings,
            free_bytes,
            forecast(storage.index, free_bytes, settings.archive.reserve_bytes, clock.now()),
            refusing,
            trouble,
            storage.index.remarks(limit),
            storage.index.rejections(limit),
            commitments,
            storage.index.tasks(),
            storms,
            needs_a_person=bool(holdings.damaged or refusing or storms)
            or any(_is_overdue(owed, settings) for owed in commitments),
        )
    if json:
        print_json(found)
    else:
        _tell(found)
    if found.needs_a_person:
        raise typer.Exit(1)


def _refusing(archive: Archive, trouble: Trouble | None) -> str:
    """Say why a C-STORE would be refused now; empty when it would not."""
    try:
        archive.require_ready()
    except ArchiveUnavailable as error:
        return str(error)
    return trouble.sentence if trouble is not None and trouble.ended_at is None else ""


def _tell(found: Status) -> None:
    held = found.holdings
    parts = (
        count(held.patients, "patient"),
        count(held.studies, "study"),
        count(held.series, "series"),
        count(held.instances, "SOP Instance"),
    )
    say(f"{found.ae_title} holds {', '.join(parts)} in {count(held.versions, 'version')}, {size(held.size_bytes)}")
    say(f"Last received  {moment(held.last_received_at)}")
    never = f", {held.never_verified} never (backup-scp verify)" if held.never_verified else ""
    say(f"Last verified  {moment(held.last_verified_at)}{never}")
    say(f"Free disk      {size(found.free_bytes)}, {expected(found.forecast)}")
    _tell_tasks(found.tasks)
    if found.refusing:
        say(f"NOTHING CAN BE STORED NOW. {found.refusing}. backup-scp check says more")
    elif found.trouble:
        began, ended = moment(found.trouble.began_at), moment(found.trouble.ended_at)
        say(f"From {began} to {ended} nothing was stored. {found.trouble.sentence}; look at the drive")
    for storm in found.storms:
        say(f"ALARM: {storm.sentence}")
    _tell_remarks(found)
    _tell_rejections(found.rejections)
    _tell_commitments(found.commitments)
    quiet = not (held.damaged or held.flagged or found.refusing or found.trouble)
    if quiet and not (found.rejections or found.commitments or found.storms):
        say("Nothing to do")


def _tell_tasks(tasks: dict[str, Task]) -> None:
    if done := tasks.get("verified"):
        say(f"Last full pass ended {moment(done.ended_at)}: {done.note}")
    if now := tasks.get("verify"):
        say(f"A full pass is under way since {moment(now.began_at)}: {count(now.done, 'version')} read")
    if now := tasks.get("rebuild"):
        say(f"The index is NOT WHOLE: it is made from the files since {moment(now.began_at)} ({now.note})")
        say(f"  {count(now.done, 'version')} so far; what is found is not all until it is done, and nothing is lost")


def _tell_remarks(found: Status) -> None:
    held = found.holdings
    if held.damaged:
        say(f"DAMAGED: {count(held.damaged, 'version')}. Send them again, then run backup-scp verify")
    if held.flagged:
        say(f"Flagged: {count(held.flagged, 'version')} worth a look")
    for remark in found.remarks:
        sender = f" from {_sender(remark)}" if remark.calling_ae_title else ""
        say(f"  {remark.sop_instance_uid}{sender}, {moment(remark.received_at)}: {', '.join(remark.flags)}")
    used = {flag for remark in found.remarks for flag in remark.flags}
    for flag in sorted(used):
        say(f"  ({flag}: {_MEANINGS.get(flag, 'see the log')})")


def _sender(remark: Remark) -> str:
    """Name who sent it; an AE title alone may be anybody's."""
    return remark.remote or f"{remark.calling_ae_title} at {remark.address}"


def _tell_rejections(rejections: list[Rejection]) -> None:
    if rejections:
        say("Turned away:")
    for rejection in rejections:
        who = f"{rejection.calling_ae_title or 'a caller without a name'} at {rejection.address}"
        say(f"  {who}, {count(rejection.count, 'time')}, last {moment(rejection.last_at)}: {rejection.reason}")
        if rejection.fix:
            say(f"    {rejection.fix}")


def _is_overdue(owed: OwedReports, settings: Settings) -> bool:
    """Tell whether a remote AE that somebody has configured waits for too long; a stranger may wait."""
    if all(remote.ae_title != owed.requester.ae_title for remote in settings.remotes):
        return False
    is_late = owed.owed and clock.now() - owed.since > _OVERDUE
    return bool(owed.given_up or is_late)


def _tell_commitments(commitments: list[OwedReports]) -> None:
    if commitments:
        say("Storage Commitment:")
    for owed in commitments:
        who = f"{owed.requester.ae_title or 'a caller without a name'} at {owed.requester.address}"
        counts = [(owed.waiting, "being checked"), (owed.owed, "owed"), (owed.given_up, "given up")]
        parts = ", ".join(f"{count(number, 'report')} {what}" for number, what in counts if number)
        say(f"  {who}: {parts}, since {moment(owed.since)}")
        if owed.error:
            again = f", next {moment(owed.next_at)}" if owed.next_at else ""
            say(f"    last tried {moment(owed.tried_at)}{again}: {owed.error}")
