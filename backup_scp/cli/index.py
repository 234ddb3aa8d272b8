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
    """Keep ``index`` a group, although it has only one command."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of the index.

    Attributes
    ----------
    file
        Path of the copy.
    size_bytes
        Size of the copy.
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
    """Copy the index to a file while the node runs: one consistent state.

    You do not need a copy to be safe: `backup-scp rebuild` makes the index from the archive's files alone. A copy saves
    that time, and also records when each file was last verified. To use it, stop the node and put the copy in the place
    of the index. Copy a PostgreSQL index with pg_dump.
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
