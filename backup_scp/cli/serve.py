"""backup-scp serve."""

from __future__ import annotations

import typer

from backup_scp.cli.options import ConfigOption, settings_of


def serve(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the node: receive, keep, answer queries, send back.

    It runs until Ctrl-C, or until the system asks it to stop. With no settings at all it listens as BACKUP_SCP on
    port 11112 and keeps everything in the folder backup-scp-data (BACKUP_SCP_HOME).
    """
    settings = settings_of(context, config, daemon=True)
    from backup_scp import serving

    serving.serve(settings, typer.echo)
