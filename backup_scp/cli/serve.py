"""backup-scp serve; it starts without typer, whose validation takes longer to load than all of pynetdicom."""

from __future__ import annotations

import gc
from pathlib import Path

from backup_scp.cli.log import configure, escape


def serve(config: Path | None) -> None:
    """Run the node with the settings of a file, or without one.

    Raises
    ------
    BackupSCPError
        It cannot start.
    """
    gc.disable()  # what is loaded stays: a quarter of the start would be spent on looking for garbage among it
    try:
        from backup_scp import serving
        from backup_scp.settings import find_file, load

        settings = load(find_file(config))
        configure(settings, daemon=True)
        serving.serve(settings, _say)
    finally:
        gc.enable()  # it was, if the node began to run


def _say(line: str) -> None:
    print(escape(line), flush=True)  # whoever waits for it reads a pipe
