"""backup-scp alerts: what is told to people who do not look."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import print_json, say
from backup_scp.errors import AlertNotSent, InvalidSelection

app = typer.Typer(no_args_is_help=True, help="Messages by e-mail and to a webhook.")


@app.callback()
def _alerts() -> None:
    """Keep ``alerts`` a group, although it has only one command."""


@dataclass(frozen=True, slots=True)
class AlertSent:
    """What became of a test message.

    Attributes
    ----------
    channel
        ``e-mail`` or ``webhook``.
    sent
        Whether it was taken there.
    error
        Why not; empty when it was.
    """

    channel: str
    sent: bool
    error: str = ""


@app.command("test", cls=PlainCommand)
def send_test(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Send a message by each channel of [alerts] in the settings, to see that it comes.

    The running node tells the result of each drill in the same way. Exit code 1 when a channel did not take it.
    """
    settings = settings_of(context, config)
    from backup_scp.node.alert_setup import alert_channels, sample_alert

    if not (channels := alert_channels(settings)):
        raise InvalidSelection("[alerts] names no channel: set email and smtp, or webhook")
    results = []
    for channel in channels:
        try:
            channel.send(sample_alert(settings))
            results.append(AlertSent(channel.name, sent=True))
        except AlertNotSent as error:
            results.append(AlertSent(channel.name, sent=False, error=str(error)))
    if json:
        print_json(results)
    else:
        for result in results:
            say(f"{result.channel}: {'sent' if result.sent else result.error}")
    if not all(result.sent for result in results):
        raise typer.Exit(1)
