"""backup-scp db: the index's database."""

from __future__ import annotations

import typer

from backup_scp.cli.options import ConfigOption, settings_of
from backup_scp.cli.output import say

app = typer.Typer(no_args_is_help=True, help="The index's database.")


@app.callback()
def _db() -> None:
    """Keep ``db upgrade`` a command of its own, though it is the only one."""


@app.command("upgrade")
def upgrade(context: typer.Context, config: ConfigOption = None) -> None:
    """Bring the index's tables up to date, after an update of backup-scp.

    Only needed for a PostgreSQL index: the embedded one is brought up to date by itself.
    """
    settings = settings_of(context, config)
    from backup_scp.storage import require_archive, require_owner, upgrade_index

    require_owner(settings)
    require_archive(settings)
    upgrade_index(settings)
    say("The index is up to date")
