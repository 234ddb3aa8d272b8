"""backup-scp audit: the log of who did what."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from backup_scp.audit.log_check import LogCheck, check_log
from backup_scp.cli.audit_show import show
from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import count, print_json, say

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what with which study.")

app.command("show", cls=PlainCommand)(show)


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


@dataclass(frozen=True, slots=True)
class SyslogTested:
    """What became of a test message.

    Attributes
    ----------
    server
        The syslog server.
    taken
        Whether it has read the message.
    error, fix
        Why not, and what to do; empty when it has.
    """

    server: str
    taken: bool
    error: str = ""
    fix: str = ""


@app.command("test", cls=PlainCommand)
def send_test(context: typer.Context, *, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Send a message to the syslog server of [audit] in the settings, to see that it comes.

    The running node sends the entries of its log in the same way. Exit code 1 when the server did not take it.
    """
    from backup_scp.audit.syslog_server import SyslogFailed
    from backup_scp.errors import InvalidSelection
    from backup_scp.node.audit_setup import syslog_server, trial_message

    settings = settings_of(context, config)
    server = syslog_server(settings)
    if server is None:
        raise InvalidSelection('[audit] names no syslog server: set syslog = "tls://HOST:6514"')
    try:
        server.send([trial_message(settings, getpass.getuser())])
        result = SyslogTested(server.name, taken=True)
    except SyslogFailed as error:
        result = SyslogTested(server.name, taken=False, error=str(error), fix=error.fix)
    if json:
        print_json(result)
    elif result.taken:
        say(f"{server.name} has read a message with the ID DICOM+RFC3881: look whether it is there")
    else:
        say(f"Not sent: {result.error}")
        say(f"  {result.fix}")
    if not result.taken:
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
