"""Make the channels of alerts from the settings."""

from __future__ import annotations

import os
import platform

from backup_scp.alerts.email_channel import EmailChannel, MailSecurity, MailServer
from backup_scp.alerts.heartbeat_call import HeartbeatCall
from backup_scp.alerts.webhook_channel import WebhookChannel
from backup_scp.machine import clock
from backup_scp.node.settings import Settings, first_line
from backup_scp.node.settings.known import SMTP_PASSWORD
from backup_scp.ports import Alert, AlertChannel

_TLS_PORT = 465  # RFC 8314


def alert_channels(settings: Settings) -> list[AlertChannel]:
    """Return the channels that the settings name.

    Raises
    ------
    InvalidSettings
        A file of them cannot be read.
    """
    said = settings.alerts
    ca = settings.home / said.ca if said.ca else None
    channels: list[AlertChannel] = []
    if said.email:
        sender = said.email_from or f"backup-scp@{platform.node() or 'localhost'}"
        channels.append(EmailChannel(_server(settings), sender, said.email))
    if said.webhook:
        channels.append(WebhookChannel(said.webhook, ca, said.webhook_form))
    return channels


def _server(settings: Settings) -> MailServer:
    said = settings.alerts
    host, _, port = said.smtp.rpartition(":")
    security = MailSecurity(said.smtp_security or ("tls" if int(port) == _TLS_PORT else "starttls"))
    password = os.environ.get(SMTP_PASSWORD, "")
    if said.smtp_password_file:
        password = first_line(settings, said.smtp_password_file, "[alerts], smtp_password_file")
    ca = settings.home / said.ca if said.ca else None
    return MailServer(host.strip("[]"), int(port), security, ca, said.smtp_user, password)


def heartbeat_call(settings: Settings) -> HeartbeatCall | None:
    """Return what calls the dead man's switch; None when the settings name none."""
    said = settings.alerts
    if not said.heartbeat:
        return None
    return HeartbeatCall(said.heartbeat, settings.node.ae_title, settings.home / said.ca if said.ca else None)


def sample_alert(settings: Settings) -> Alert:
    """Return a message that says only that it has come."""
    node = settings.node.ae_title
    text = f"This is a test, typed at {platform.node()}. What comes by this way needs no answer."
    subject = f"{node}: test of the alerts of backup-scp"
    return Alert("test", node, clock.now(), is_alarm=False, subject=subject, text=text)
