"""Whether users can log in at the provider, and what to enter there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from backup_scp.errors import BackupSCPError
from backup_scp.machine import clock
from backup_scp.machine.addresses import is_loopback
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.openid_setup import redirect_address, registration
from backup_scp.node.settings import Settings

_WHAT = "openid connect"
_FAR_S = 60.0  # as a token may be from the future


def openid_connect(settings: Settings, port: int) -> Iterator[Finding]:
    """Ask the provider who it is, and for its keys; ``port`` is the one of a node that runs."""
    if not settings.web.openid_connect.is_on:
        return
    from backup_scp.openid.provider_calls import ProviderCalls

    redirect = redirect_address(settings, port)
    try:
        client = registration(settings)
        calls = ProviderCalls(client)
        metadata, answer = calls.metadata()
        calls.keys(metadata)
    except BackupSCPError as error:
        yield Finding(_WHAT, Severity.ACT, str(error), "docs/openid-connect.md says what to enter where")
    else:
        if off_s := _seconds_off(answer.headers.get("date", "")):
            told = f"this computer's clock and that of {client.label} differ by {abs(off_s):.0f} s: logins fail"
            yield Finding(_WHAT, Severity.ACT, told, "set the clock: both need time from the network (NTP)")
        yield Finding(_WHAT, Severity.OK, f"{client.label} answers. Its redirect address for this node: {redirect}")
    if not redirect.startswith("https:") and not is_loopback(settings.web.host):
        told = f"the redirect address {redirect} has no https: most providers refuse it"
        yield Finding(_WHAT, Severity.NOTE, told, "set public_url, or a certificate, in [web]")
    yield from _secret(settings)


def _secret(settings: Settings) -> Iterator[Finding]:
    named = settings.web.openid_connect.client_secret_file
    file = settings.home / Path(named).expanduser()
    try:
        is_open = bool(named) and os.name == "posix" and bool(file.stat().st_mode & 0o077)
    except OSError:
        return  # told above
    if is_open:
        told = f"others on this computer can read {named}, which has the secret"
        yield Finding(_WHAT, Severity.NOTE, told, f"chmod 600 {file}")


def _seconds_off(date: str) -> float:
    """Return how far a clock is from ours, by the header of an answer; 0 when it is near, or says nothing."""
    try:
        said: datetime = parsedate_to_datetime(date)
        off_s = (said - clock.now()).total_seconds()
    except (TypeError, ValueError, IndexError):
        return 0.0
    return off_s if abs(off_s) > _FAR_S else 0.0
