"""backup-scp db: the index's database."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import print_json, say

app = typer.Typer(no_args_is_help=True, help="The index's database.")


@app.callback()
def _db() -> None:
    """Keep ``db`` a group, although it has only one command."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The result of an upgrade of the index's tables.

    Attributes
    ----------
    upgraded
        Whether the tables were changed.
    """

    upgraded: bool


@app.command("upgrade", cls=PlainCommand)
def upgrade(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Bring the tables of the index and of users up to date, after an update of backup-scp.

    Only a PostgreSQL index needs this: the node upgrades SQLite files itself.
    """
    settings = settings_of(context, config)
    from backup_scp.node.accounts_setup import upgrade_accounts
    from backup_scp.node.opening import require_archive, require_owner, upgrade_index

    require_owner(settings)
    require_archive(settings)
    upgraded = upgrade_index(settings) | upgrade_accounts(settings)
    if json:
        print_json(Upgraded(upgraded))
    else:
        say("The index is up to date")
