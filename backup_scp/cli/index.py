"""backup-scp index: copies of the index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import print_json, say, size

app = typer.Typer(no_args_is_help=True, help="Copies of the index.")


@app.callback()
def _index() -> None:
    """Keep ``index backup`` a command of its own, though it is the only one."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of the index.

    Attributes
    ----------
    file
        Where it is.
    size_bytes
        Its size.
    """

    file: str
    size_bytes: int


@app.command("backup", cls=PlainCommand)
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Copy the index to a file, beside the running node: the index as it is at one moment.

    Not needed to be safe: `backup-scp rebuild` makes the index from the files of the archive alone. A copy saves the
    time that this takes, and also knows when each file was last verified. To use it, stop the node and put it in the
    place of the index. A PostgreSQL index is copied by pg_dump.
    """
    settings = settings_of(context, config)
    from backup_scp.node.opening import back_up_index, require_archive, require_owner

    require_owner(settings)
    require_archive(settings)
    to = file.expanduser().absolute()
    copied = Copied(str(to), back_up_index(settings, to))
    if json:
        print_json(copied)
    else:
        say(f"The index was copied to {file}, {size(copied.size_bytes)}")
