"""backup-scp verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.interruption import INTERRUPTED, interruptible
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import count, print_json, progress, say, say_list, size

if TYPE_CHECKING:
    from backup_scp.services.verify import Verification


def verify(
    context: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="Add intact files that are missing in the index to the index.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted pass, of this command or of the node.")
    ] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Read all files, and compare every byte with its digest.

    The node may run meanwhile. Ctrl-C ends the command, and --resume continues it. Damaged or missing images are
    listed: to repair them, send them again from the console or another archive. Files that are not ours are listed and
    never touched. Exit code 1 when something is wrong.
    """
    settings = settings_of(context, config)
    from backup_scp.errors import InvalidSelection
    from backup_scp.node.audit_setup import reporting_on
    from backup_scp.node.opening import OpenStores
    from backup_scp.ports import RECOVERY
    from backup_scp.services import verify as service

    found = service.Verification(stopped=INTERRUPTED)
    with (
        interruptible(lambda: _tell(found, json)),
        OpenStores(settings) as storage,
        reporting_on(storage),
        progress("Verifying") as show,
    ):
        if RECOVERY in storage.index.tasks():  # what is not here yet would look lost
            raise InvalidSelection("The archive is being recovered from a copy: verify it when all is back")
        service.verify(storage.archive, storage.index, show, repair=repair, resume=resume, found=found)
        found.stopped = ""
    _tell(found, json)
    if found.needs_a_person:
        raise typer.Exit(1)


def _tell(found: Verification, json: bool) -> None:
    if json:
        print_json(found)
        return
    say(f"{count(found.intact, 'image')} intact, {size(found.size_bytes)} read")
    _tell_findings(found)
    if found.stopped:
        say(f"{found.stopped}. To read the rest: backup-scp verify --resume")


def _tell_findings(found: Verification) -> None:
    for findings, what in ((found.damaged, "damaged"), (found.missing, "missing")):
        if findings:
            say(f"{len(findings)} {what}: send these images again, from the console or another archive")
            say_list((f"{f.sop_instance_uid}: {f.reason}" for f in findings), len(findings))
    if found.unindexed:
        files = count(len(found.unindexed), "intact file")
        say(
            f"{files} added to the index"
            if found.repaired
            else f"{files} not in the index: run backup-scp verify --repair"
        )
        say_list(found.unindexed, len(found.unindexed))
    if found.foreign_count:
        say(f"{count(found.foreign_count, 'file')} not ours, never touched:")
        say_list(found.foreign, found.foreign_count)
    if found.unindexed_damaged:
        say(f"{count(len(found.unindexed_damaged), 'damaged file')} not in the index; nothing can be done with them:")
        say_list((f.reason for f in found.unindexed_damaged), len(found.unindexed_damaged))
