"""backup-scp audit: the log of who did what."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from backup_scp.audit.log_check import LogCheck, check_log
from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import count, print_json, say

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what with which study.")


@app.callback()
def group() -> None:
    """Keep ``verify`` a command of its own, though it is the only one."""


@app.command("verify", cls=PlainCommand)
def verify(
    context: typer.Context,
    *,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The log, or a copy of it. Without it: audit in the data folder."),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A public key that may have signed. Without it: those beside the log."),
    ] = None,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Check that no record of the audit log was changed, removed, added or moved.

    Exit code 1 when one was: the first such record is named. docs/audit.md has a script that does the same without this
    program.
    """
    from backup_scp.node.audit_setup import FOLDER, reporting
    from backup_scp.services.audit_reporter import Party

    settings = settings_of(context, config)
    where = folder or settings.home / FOLDER
    found = check_log(where, key or ())
    if json:
        print_json(found)
    else:
        _tell(found)
    if folder is None:
        with reporting(settings) as reporter:
            reporter.log_used(Party(getpass.getuser()), where.name)
    if found.problem:
        raise typer.Exit(1)


def _tell(found: LogCheck) -> None:
    if found.problem:
        say(f"THE AUDIT LOG WAS CHANGED. {found.problem}")
        say(f"The {count(found.records, 'record')} before it are as they were written.")
    else:
        say(f"{count(found.records, 'record')} as they were written, the last at {found.last_at}.")
        say(f"{count(found.unsigned, 'record')} behind the last signature: the node signs each minute, and at its end.")
    for fingerprint in found.keys:
        say(f"Signed by the key {fingerprint}: compare it with the one on paper.")
