"""backup-scp restore."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.interruption import signals_interrupt
from backup_scp.cli.options import AsOfOption, ConfigOption, JSONOption, Versions, settings_of, takes_groups
from backup_scp.cli.output import complain, print_json, progress, say
from backup_scp.cli.restore_report import missing, tell
from backup_scp.cli.restore_summary import summary
from backup_scp.cli.selecting import SelectionOptions
from backup_scp.errors import BackupSCPError, InvalidSelection
from backup_scp.machine import clock
from backup_scp.machine.hours import Hours

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from backup_scp.cli.restore_receipt import Ends
    from backup_scp.cli.restore_summary import Missing
    from backup_scp.node.settings import Settings
    from backup_scp.ports import Index, Progress, RestoreDestination, Selection, SiteScope
    from backup_scp.receipts.receipt_file import ReceiptFile
    from backup_scp.services.restore_journal import Dropped
    from backup_scp.services.restore_result import Restore
    from backup_scp.services.worklist import Worklist


def _digits(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{12,64}", text):
        raise typer.BadParameter(
            "write 12 to 64 hex digits of the SHA-256, as backup-scp find --versions all shows them"
        )
    return text.lower()


def _hours(text: str) -> Hours:
    try:
        return Hours.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@dataclass(frozen=True, slots=True)
class WholeOptions:
    """What to send without conditions."""

    everything: Annotated[bool, typer.Option("--all", help="All stored studies.")] = False
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            readable=False,
            help="What a text file names, in its order: a Patient ID, Accession Number or Study Instance UID in each "
            "line, or in the first column of a CSV file.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class VersionOptions:
    """Which versions of the selected images are sent."""

    versions: Annotated[
        Versions, typer.Option(help="One version of each image (the one that answers queries), or all.")
    ] = Versions.ONE
    as_of: AsOfOption = None
    digests: Annotated[
        list[str] | None,
        typer.Option(
            "--version",
            metavar="DIGEST",
            parser=_digits,
            help="Exactly this version, by the first 12 or more digits of its SHA-256. May be given several times.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class SendingOptions:
    """How images are sent, and what is written about it."""

    throttle: Annotated[
        float, typer.Option(min=0, metavar="MB/S", help="Send no more than this many MB a second; 0 is no limit.")
    ] = 0
    hours: Annotated[
        Hours | None,
        typer.Option(
            metavar="BEGIN-END",
            parser=_hours,
            help="Send only at this time of day, such as 20:00-06:30, and wait until it begins.",
        ),
    ] = None
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="MINUTES",
            help="How long to wait for a remote AE that is off, restarts, hangs or is full, after the last confirmed "
            "image; 0 gives up at once.",
        ),
    ] = 60
    again: Annotated[
        bool, typer.Option("--again", help="Also send images that this remote AE confirmed in an earlier restore.")
    ] = False
    commit: Annotated[
        bool, typer.Option("--commit", help="Ask the remote AE to commit the sent images (Storage Commitment).")
    ] = False
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Write a receipt to this file, which ends in .txt, .json or .pdf. It names patients.",
        ),
    ] = None


@takes_groups
def restore(
    context: typer.Context,
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="AE|FOLDER",
            help="A configured remote AE (name or AE title), AETITLE@HOST:PORT, or a folder.",
        ),
    ],
    selected: SelectionOptions,
    whole: WholeOptions,
    which: VersionOptions,
    sending: SendingOptions,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Send studies back: to the console, another PACS, or a folder.

    Select images as in find, with --study, --patient-id, --name, --accession, --study-date, --since, --until,
    --modality or --instance. Different options narrow the selection; of an option given several times, one value must
    match. Or send everything with --all, or what a file names with --list; other options narrow the list.

    The newest study goes first; of a list, what its first line names. Each file is checked before it is sent, and
    counts when the other side has confirmed it. An image that is refused does not stop the others. The command waits
    for a remote AE that is off, restarts, hangs or is full (--wait). After an interruption run the same command again:
    it sends only what is missing. A confirmation is valid for 30 days and for the same equipment. If the remote AE
    answers C-FIND, the command asks whether it still has the images, and at the end whether it lists all of each study.

    Which version: the one that answers queries now. With --as-of: the one that answered at that time, and nothing that
    arrived later. With --version: exactly the named ones, from find --versions all. With --as-of, --patient-id matches
    the Patient ID of that time, even if it was corrected since; --since and --until match the current Study Date.

    Where to: the name or AE title of a [[remote]] in the settings, or AETITLE@HOST:PORT; else an existing folder, or
    a path with a / in it (for a new folder here write ./NAME). Nothing in a folder is overwritten.

    --commit asks the remote AE whether it keeps the sent images, and those that it refused, because it may have them
    already. Images that it does not commit count as failed.

    --receipt writes what was sent, how its arrival was confirmed, and what is missing and why; also after Ctrl-C.
    docs/restore.md explains lists and receipts.

    Exit code 0 when all images are there, 1 when an image is missing or a selection or line matches nothing, 130 after
    Ctrl-C.
    """
    settings = settings_of(context, config)
    from backup_scp.cli.restore_clinics import clinics_for
    from backup_scp.node import remote_aes

    destination = remote_aes.destination(settings, to)
    selection = _selection(selected, whole, which, clinics_for(settings, selected, to))
    if sending.receipt is not None:
        from backup_scp.node.remote_aes import refuse_our_own

        refuse_our_own(settings, sending.receipt.absolute().parent.resolve())
    with progress(f"Restoring to {destination.name}") as show:
        done, lacking, dropped, written = send(settings, to, destination, selection, sending, show=show)
    there = getattr(destination, "already_there", 0)
    if json:
        print_json(summary(done, lacking, destination.name, there, dropped, str(written or "")))
    else:
        tell(done, lacking, destination.name, there, dropped)
        if written:
            say(f"The receipt is {written}")
    if done.interrupted:
        raise typer.Exit(130)
    if not done.is_complete or (sending.receipt and not written):
        raise typer.Exit(1)


def send(
    settings: Settings,
    to: str,
    destination: RestoreDestination,
    selection: Selection | Worklist,
    sending: SendingOptions,
    *,
    show: Callable[[Progress], None],
    tell_waiting: Callable[[str], None] = complain,
) -> tuple[Restore, list[Missing], Dropped, Path | None]:
    """Send the selected images; return the results, missing images, dropped confirmations, and the receipt's file.

    ``show`` gets the progress, ``tell_waiting`` why it waits.
    """
    from backup_scp.cli.restore_clinics import require_one_clinic
    from backup_scp.node import remote_aes
    from backup_scp.node.audit_setup import report_restore, reporting_on
    from backup_scp.node.opening import OpenStores
    from backup_scp.node.recovering import readable_archive
    from backup_scp.services import restore as service
    from backup_scp.services.restore_journal import Dropped
    from backup_scp.services.throttle import Patience, SendingHours, Throttle
    from backup_scp.services.worklist import Worklist

    file, began_at = _receipt_file(sending.receipt), clock.now()

    def tell(words: str) -> None:
        tell_waiting(words.replace("The destination", destination.name, 1))

    with ExitStack() as stack:
        stack.enter_context(signals_interrupt())
        storage = stack.enter_context(OpenStores(settings))
        reporter = stack.enter_context(reporting_on(storage))
        if not isinstance(selection, Worklist):
            require_one_clinic(storage.index, selection)
        journal = remote_aes.journal(settings, to)
        if journal is not None:
            stack.enter_context(journal)
        if sending.again and journal is not None:
            journal.start_over()
        asking = stack.enter_context(remote_aes.committer(settings, to, storage.index)) if sending.commit else None
        inventory = stack.enter_context(remote_aes.inventory(settings, to, journal))
        done = service.restore(
            readable_archive(storage, stack),
            storage.index,
            selection,
            destination,
            show,
            throttle=Throttle(sending.throttle),
            hours=SendingHours(sending.hours, tell),
            patience=Patience(60 * sending.wait if journal is not None else 0, tell),
            journal=journal,
            inventory=inventory,
            commit=asking,
        )
        report_restore(reporter, done, remote_aes.find_remote(settings, to), destination.name)
        lacking = missing(done, storage.index, destination.name)
        written = None
        if file is not None:
            ends = _ends(settings, to, destination, storage.index, began_at)
            written = _write_receipt(file, done, lacking, ends, storage.index)
    return done, lacking, Dropped(0, 0) if journal is None else journal.dropped, written


def _receipt_file(path: Path | None) -> ReceiptFile | None:
    """Check that the receipt can be written, before hours of work."""
    if path is None:
        return None
    from backup_scp.receipts.receipt_file import ReceiptFile

    return ReceiptFile(path)


def _ends(settings: Settings, to: str, destination: RestoreDestination, index: Index, began_at: datetime) -> Ends:
    from backup_scp.cli.restore_receipt import Ends
    from backup_scp.node.remote_aes import find_remote

    return Ends(
        ours=settings.node.ae_title,
        archive=index.archive_identity() or "",
        name=destination.name,
        remote=find_remote(settings, to),
        implementation=destination.implementation,
        began_at=began_at,
        ended_at=clock.now(),
    )


def _write_receipt(file: ReceiptFile, done: Restore, lacking: list[Missing], ends: Ends, index: Index) -> Path | None:
    """Write the receipt; when that fails, say so, and return None: the images are sent nevertheless."""
    from backup_scp.cli.restore_receipt import receipt

    try:
        return file.write(receipt(done, lacking, ends, index))
    except BackupSCPError as error:
        complain(str(error))
        return None


def _selection(
    selected: SelectionOptions, whole: WholeOptions, which: VersionOptions, scope: SiteScope
) -> Selection | Worklist:
    """Return the selection of the options; raise for contradicting options and for none."""
    from backup_scp.ports import Selection

    all_versions, everything, listed = which.versions is Versions.ALL, whole.everything, whole.listed
    selection = Selection(selected.conditions(), all_versions, which.as_of, tuple(which.digests or ()), scope)
    if selection.digests and (everything or listed or selection.all_versions or selection.as_of):
        raise InvalidSelection("--version names what to send: leave out --all, --list, --versions and --as-of")
    if everything and (selection.conditions or listed):
        raise InvalidSelection("--all selects everything: leave out --all, or the other options")
    if listed:
        from backup_scp.cli.restore_list import read

        return read(listed, selection)
    if not everything and not selection.digests and not selection.conditions:
        raise InvalidSelection(
            "Nothing is selected: use --study, --patient-id, --name, --since, --until, --version, --list ..., or --all"
        )
    return selection
