"""backup-scp audit show: the last entries of the audit log."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import moment, print_json, say
from backup_scp.errors import InvalidSelection

if TYPE_CHECKING:
    from backup_scp.audit.shown_entries import ShownEntry

_MOST_ABOUT = 3


def show(
    context: typer.Context,
    *,
    last: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="How many entries at most.")] = 20,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only since then, as in 2026-12-01 or 2026-12-01T08:30.")
    ] = "",
    patients: Annotated[bool, typer.Option("--patients", help="With the Patient IDs that entries have.")] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Print the last entries of the audit log in words: when, what, who, about which studies, how it ended.

    That somebody has read the log is an entry as well.
    """
    from backup_scp.audit.shown_entries import last_entries
    from backup_scp.node.audit_setup import FOLDER, reporting
    from backup_scp.services.audit_reporter import Party

    settings = settings_of(context, config)
    found = last_entries(settings.home / FOLDER, last, _time(since), with_patients=patients)
    with reporting(settings) as reporter:
        reporter.log_used(Party(getpass.getuser()), FOLDER)
    if json:
        print_json(found)
        return
    for each in found:
        say(_line(each))
    if not found:
        say("No entry since then")


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise InvalidSelection(f"--since {text}: write a day or a time, as in 2026-12-01 or 2026-12-01T08:30") from None


def _line(entry: ShownEntry) -> str:
    who = f"{entry.who} at {entry.address}" if entry.address else entry.who
    more = len(entry.about) - _MOST_ABOUT
    about = ", ".join(entry.about[:_MOST_ABOUT]) + (f" and {more} more" if more > 0 else "")
    ended = f"FAILED: {entry.reason}".removesuffix(": ") if entry.failed else ""
    return "  ".join(filter(None, (moment(datetime.fromisoformat(entry.at)), entry.what, who, about, ended)))
