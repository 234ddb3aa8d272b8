"""backup-scp db: the index's database."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import print_json, say

app = typer.Typer(no_args_is_help=True, help="The index's database.")


@app.callback()
def _db() -> None:
    """Keep ``db upgrade`` a command of its own, though it is the only one."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """Tables that are those of this version.

    Attributes
    ----------
    upgraded
        Whether they were changed.
    """

    upgraded: bool


@app.command("upgrade", cls=PlainCommand)
def upgrade(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Bring the index's tables up to date, after an update of backup-scp.

    Only needed for a PostgreSQL index: the embedded one is brought up to date by itself.
    """
    settings = settings_of(context, config)
    from backup_scp.node.opening import require_archive, require_owner, upgrade_index

    require_owner(settings)
    require_archive(settings)
    upgraded = upgrade_index(settings)
    if json:
        print_json(Upgraded(upgraded))
    else:
        say("The index is up to date")
