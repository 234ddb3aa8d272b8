"""Let the running node tell its own findings, and call the dead man's switch while it can store images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from backup_scp.errors import BackupSCPError
from backup_scp.node.alert_setup import alert_channels, heartbeat_call
from backup_scp.node.health import diagnosis, facts
from backup_scp.node.health.alarm_rules import ALL_KINDS, INDEX_KINDS, conditions
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import Settings
from backup_scp.ports import SeenConditions
from backup_scp.watch import alert_events
from backup_scp.watch.alert_thread import AlertThread
from backup_scp.watch.heartbeat_thread import HeartbeatThread


def seen(settings: Settings, storage: OpenStores) -> SeenConditions:
    """Look for what a person must be told, at little cost: no count of all images."""
    try:
        found = facts.gather(settings, storage, counts=False)
    except BackupSCPError as error:  # the archive is gone, or another user's
        fix = "backup-scp check says more"
        lost = Finding("storing", Severity.ACT, f"NOTHING CAN BE STORED NOW. {error}", fix)
        return conditions([lost], ALL_KINDS)
    return conditions(diagnosis.findings(found), INDEX_KINDS if found.known is None else frozenset())


def start_alarms(settings: Settings, storage: OpenStores, is_listening: Callable[[], bool]) -> ExitStack:
    """Start what the settings ask for; closing ends it."""
    stack = ExitStack()
    thread = alert_thread(settings, storage)
    if thread is not None:
        thread.start()
        stack.callback(thread.stop)
    if (call := heartbeat_call(settings)) is not None:
        why_not = partial(_why_not, settings, storage, is_listening, thread)
        heart = HeartbeatThread(call, why_not, settings.alerts.heartbeat_minutes * 60)
        heart.start()
        stack.callback(heart.stop)
    return stack


def alert_thread(settings: Settings, storage: OpenStores) -> AlertThread | None:
    """Return the thread that tells alarms; None when the settings name no channel."""
    if not settings.alerts.has_channel:
        return None
    return AlertThread(
        settings.home,
        storage.index,
        partial(alert_channels, settings),
        partial(seen, settings, storage),
        settings.node.ae_title,
    )


def _why_not(
    settings: Settings, storage: OpenStores, is_listening: Callable[[], bool], thread: AlertThread | None
) -> str:
    """Return why an image would be refused now, or its alarm not be told; empty when all is well."""
    if not is_listening():
        return "the node accepts no connections"
    if thread is not None and not thread.is_alive:
        return "the thread that tells alarms has ended"
    return facts.why_refused(settings, storage)


def leave_event(settings: Settings, sentence: str) -> None:
    """Leave what happened to the process that tells alarms, if anybody is to be told."""
    if settings.alerts.has_channel:
        alert_events.leave_event(settings.home, sentence)
