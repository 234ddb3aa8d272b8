"""backup-scp alerts: what is told to people who do not look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import count, moment, print_json, say, say_list
from backup_scp.errors import AlertNotSent, InvalidSelection

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings
    from backup_scp.watch.alert_list import ListedAlarm

app = typer.Typer(no_args_is_help=True, help="Messages by e-mail and to a webhook, and the heartbeat.")


@dataclass(frozen=True, slots=True)
class AlertSent:
    """What became of a test message.

    Attributes
    ----------
    channel
        ``e-mail``, ``webhook`` or ``heartbeat``.
    sent
        Whether it was taken there.
    error
        Why not; empty when it was.
    """

    channel: str
    sent: bool
    error: str = ""


@app.command("test", cls=PlainCommand)
def send_test(
    context: typer.Context,
    channel: Annotated[
        str, typer.Option(metavar="NAME", help="Only this one: e-mail, webhook or heartbeat.", show_default=False)
    ] = "",
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Send a message by each channel of [alerts] in the settings, and call the heartbeat, to see that it comes.

    The running node tells its alarms in the same way. Exit code 1 when a channel did not take it.
    """
    ways = _ways(settings_of(context, config))
    if not ways:
        raise InvalidSelection("[alerts] names no channel: set email and smtp, or webhook, or heartbeat")
    if channel and channel not in ways:
        raise InvalidSelection(f"[alerts] has no channel {channel}; it has {', '.join(ways)}")
    results = []
    for name, send in ways.items():
        if channel in {"", name}:
            try:
                send()
                results.append(AlertSent(name, sent=True))
            except AlertNotSent as error:
                results.append(AlertSent(name, sent=False, error=str(error)))
    if json:
        print_json(results)
    else:
        for result in results:
            say(f"{result.channel}: {'sent' if result.sent else result.error}")
    if not all(result.sent for result in results):
        raise typer.Exit(1)


def _ways(settings: Settings) -> dict[str, Callable[[], None]]:
    """Return what sends a test message, by the names of the channels."""
    from backup_scp.node.alert_setup import alert_channels, heartbeat_call, sample_alert

    alert = sample_alert(settings)
    ways: dict[str, Callable[[], None]] = {each.name: partial(each.send, alert) for each in alert_channels(settings)}
    if (call := heartbeat_call(settings)) is not None:
        ways[call.name] = call
    return ways


@app.command("list", cls=PlainCommand)
def show(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Print what the node has told by which channel, and what waits."""
    settings = settings_of(context, config)
    from backup_scp.watch.alert_list import alert_list
    from backup_scp.watch.alert_state import read_alert_state

    said = settings.alerts
    channels = ["e-mail"] * bool(said.email) + ["webhook"] * bool(said.webhook)
    listed = alert_list(read_alert_state(settings.home), channels)
    if json:
        print_json(listed)
        return
    if not settings.alerts.has_channel:
        say("[alerts] names no channel: nobody is told")
    for name, trouble in listed.troubles.items():
        say(f"{name or 'settings'}: since {moment(trouble.since)}: {trouble.sentence}")
    say(f"{count(len(listed.alarms), 'alarm')} now")
    say_list(map(_line, listed.alarms), len(listed.alarms))
    say(f"{count(len(listed.sent), 'message')} sent")
    lines = (f"{moment(each.at)}  {each.channel}  {each.subject}" for each in listed.sent)
    say_list(lines, len(listed.sent))


def _line(alarm: ListedAlarm) -> str:
    told = f"told by {', '.join(alarm.told_by)}" if alarm.told_by else "not told yet"
    waits = f"; waits for {', '.join(alarm.waits_for)}" if alarm.waits_for and alarm.told_by else ""
    over = f" to {moment(alarm.ended_at)}" if alarm.ended_at else ""
    return f"{moment(alarm.since)}{over}  {alarm.sentence} ({told}{waits})"
