"""backup-scp reload: let the running node read its settings again."""

from __future__ import annotations

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import print_json, say
from backup_scp.errors import InvalidSettings

_LONGEST_S = 120.0


def reload(context: typer.Context, *, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Let the running node use the settings file as it is now, while it goes on.

    Associations that run stay. The file is checked as a whole first: when something in it is wrong, the node
    keeps all of its settings, and the command says what is wrong. The folders of data, archive and index and the number
    of processes change with a restart only.
    """
    from backup_scp.node.reloading import ask

    try:
        settings = settings_of(context, config)
    except InvalidSettings as error:
        raise InvalidSettings(f"{error}. The node keeps the settings that it has") from None
    outcome = ask(settings, _LONGEST_S)
    if json:
        print_json(outcome)
    else:
        say(outcome.sentence)
        for name in outcome.changed:
            say(f"  {name}")
    if not outcome.applied:
        raise typer.Exit(1)
