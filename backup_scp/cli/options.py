"""What several commands take: --config before or after the command, and --json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from backup_scp.settings import Settings

_CONFIG_HELP = "Settings file (TOML). Without one the defaults are used; conf/backup-scp.toml explains them all."

MainConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="BACKUP_SCP_CONFIG", metavar="FILE", help=_CONFIG_HELP)
]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP)]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


def settings_of(context: typer.Context, config: Path | None, *, daemon: bool = False) -> Settings:
    """Read the settings that a command line asks for, and start the log as they say.

    ``--config`` after the command wins over one before it, and that over BACKUP_SCP_CONFIG.

    Raises
    ------
    InvalidSettings
    """
    from backup_scp.cli.log import configure
    from backup_scp.settings import load

    settings = load(config or context.find_root().obj)
    configure(settings, daemon=daemon)
    return settings
