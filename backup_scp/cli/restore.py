"""backup-scp restore."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backup_scp.cli.options import AsOfOption, ConfigOption, JSONOption, Versions, settings_of
from backup_scp.cli.output import count, print_json, progress, say, say_list, size
from backup_scp.errors import InvalidSelection

if TYPE_CHECKING:
    from backup_scp.ports import Destination, Selection
    from backup_scp.restore import Outcome, Restore


def _date(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text):
        raise typer.BadParameter("write the date as 2026-01-31 or 20260131")
    return text.replace("-", "")


def _digits(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{12,64}", text):
        raise typer.BadParameter(
            "write 12 to 64 hex digits of the SHA-256, as backup-scp find --versions all shows them"
        )
    return text.lower()


def restore(  # noqa: PLR0913, PLR0917 - one for each option
    context: typer.Context,
    to: Annotated[
        str, typer.Option("--to", metavar="AE|FOLDER", help="A configured remote AE (name or AE title), or a folder.")
    ],
    study: Annotated[str | None, typer.Option(metavar="UID", help="This study (Study Instance UID).")] = None,
    patient_id: Annotated[str | None, typer.Option(metavar="ID", help="The studies of this Patient ID.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", parser=_date, help="Studies of this Study Date or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", parser=_date, help="Studies of this Study Date or earlier.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is held.")] = False,
    versions: Annotated[
        Versions, typer.Option(help="One version of each SOP Instance (the one that answers queries), or all.")
    ] = Versions.ONE,
    as_of: AsOfOption = None,
    digests: Annotated[
        list[str] | None,
        typer.Option(
            "--version",
            metavar="DIGEST",
            parser=_digits,
            help="Exactly this version, by the first 12 or more digits of its SHA-256; may be given several times.",
        ),
    ] = None,
    throttle: Annotated[
        float, typer.Option(min=0, metavar="MB/S", help="Send no more than this many MB a second; 0 is no limit.")
    ] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Send also what this remote AE confirmed in an earlier restore.")
    ] = False,
    commit: Annotated[
        bool, typer.Option("--commit", help="Have the remote AE commit what it was sent (Storage Commitment).")
    ] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Send studies back: to the console, another PACS, or a folder.

    Say what with --study, --patient-id, --since, --until (together they narrow), or --all. The newest study goes
    first. Each file is checked before it is sent, and counts when the other side has confirmed it. Run the same
    command again after an interruption: only what is missing is sent.

    Which version: the one that answers queries now; with --as-of the one that answered at that time, and nothing that
    came later; with --version exactly those named, as find --versions all lists them. With --as-of a Patient ID is the
    one of that time, also of what was corrected since; --since and --until go by the Study Date that is known now.

    Where to: the name or AE title of a [[remote]] in the settings; else a folder that exists, or a path with a / in it
    (for a new folder here write ./NAME). Nothing in a folder is overwritten.

    With --commit the remote AE is asked whether it keeps what it was sent; what it does not commit counts as failed.

    Exit code 1 when anything could not be sent, or was not committed.
    """
    settings = settings_of(context, config)
    from backup_scp import remotes
    from backup_scp import restore as service
    from backup_scp.ports import Selection
    from backup_scp.storage import Storage

    all_versions = versions is Versions.ALL
    selection = Selection(study, patient_id, since, until, all_versions, as_of, tuple(digests or ()))
    _require_selection(selection, everything)
    destination = remotes.destination(settings, to)
    journal = remotes.journal(settings, to)
    if again and journal is not None:
        journal.forget()
    with ExitStack() as stack:
        storage = stack.enter_context(Storage(settings))
        asking = stack.enter_context(remotes.committer(settings, to, storage.index)) if commit else None
        show = stack.enter_context(progress(f"Restoring to {destination.name}"))
        done = service.restore(
            storage.archive,
            storage.index,
            selection,
            destination,
            show,
            throttle=service.Throttle(throttle),
            journal=journal,
            commit=asking,
        )
    if json:
        print_json(_summary(done, destination))
    else:
        _tell(done, destination)
    if done.failed or done.uncommitted:
        raise typer.Exit(1)


def _require_selection(selection: Selection, everything: bool) -> None:
    if selection.digests and (everything or selection.all_versions or selection.as_of):
        raise InvalidSelection("--version names what to send: leave out --all, --versions and --as-of")
    narrowed = (selection.study_instance_uid, selection.patient_id, selection.since, selection.until)
    if everything and any(value is not None for value in narrowed):
        raise InvalidSelection("--all means everything: leave it out, or the other options")
    if not everything and not selection.digests and all(value is None for value in narrowed):
        raise InvalidSelection("Nothing is selected: say --study, --patient-id, --since, --until, --version, or --all")


def _summary(done: Restore, destination: Destination) -> dict[str, Any]:
    return {
        "destination": destination.name,
        "selected": done.selected,
        "confirmed_before": done.confirmed_before,
        "sent": done.sent,
        "already_there": getattr(destination, "already_there", 0),
        "size_bytes": done.size_bytes,
        "warnings": [_row(outcome) for outcome in done.warnings],
        "failed": [_row(outcome) for outcome in done.failed],
        "stopped": done.stopped,
        "committed": done.committed,
        "uncommitted": [held.sop_instance_uid for held in done.uncommitted],
        "no_commitment": done.no_commitment,
    }


def _row(outcome: Outcome) -> dict[str, str]:
    return {
        "sop_instance_uid": outcome.held.sop_instance_uid,
        "study_instance_uid": outcome.held.study_instance_uid,
        "reason": outcome.reason,
    }


def _tell(done: Restore, destination: Destination) -> None:
    if not done.selected:
        say("Nothing that is held matches: look with backup-scp find")
        return
    already_there = getattr(destination, "already_there", 0)
    there = f", {already_there} of them were there already" if already_there else ""
    say(f"{count(done.sent, 'SOP Instance')} ({size(done.size_bytes)}) confirmed by {destination.name}{there}")
    if done.confirmed_before:
        before = f"{done.confirmed_before} confirmed by {destination.name} in an earlier restore"
        say(f"{before} and not sent again; --again sends them too")
    if done.committed:
        say(f"{count(done.committed, 'SOP Instance')} committed by {destination.name}")
    if done.uncommitted:
        say(f"{count(len(done.uncommitted), 'SOP Instance')} not confirmed committed: {done.no_commitment}")
    if done.warnings:
        say(f"{count(len(done.warnings), 'warning')}:")
        say_list((f"{o.held.sop_instance_uid}: {o.reason}" for o in done.warnings), len(done.warnings))
    if done.stopped:
        say(f"Stopped: {done.stopped}. Run the same command again to send the rest")
    if done.failed:
        say(f"{count(len(done.failed), 'SOP Instance')} not sent:")
        say_list((f"{o.held.sop_instance_uid}: {o.reason}" for o in done.failed), len(done.failed))
