"""When the certificates end that the settings name, and what is wrong with them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backup_scp.errors import InvalidSettings
from backup_scp.node.settings import Settings

_EXPIRES_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class CertificateState:
    """The certificates of one section of the settings.

    Attributes
    ----------
    section
        Its name, such as ``[tls]``.
    ends_at
        When the first of ours, or of the authorities there, ends; of authorities alone the last, since a file with the
        next one beside it is ready. Null when they cannot be used, or have ended.
    trouble
        What is wrong with them, in a sentence; empty when nothing is.
    """

    section: str
    ends_at: datetime | None
    trouble: str = ""


def certificate_states(settings: Settings, now: datetime) -> list[CertificateState]:
    """Look at our certificates (files, key, dates), and at the authorities that we trust when we call others."""
    sections = {"[tls]": settings.tls_files, "[web]": settings.web_tls_files if settings.web.enabled else None}
    sections["[audit]"] = settings.audit_files
    named = {files: section for section, files in reversed(sections.items()) if files}  # the same files once
    ours = [_state_of(section, files, now) for files, section in reversed(named.items())]
    seen = {file for files in named for file in files}
    trusted = {file: section for section, file in reversed(list(_trusted(settings))) if file not in seen}
    others = (_state_of_authorities(section, file, now) for file, section in reversed(trusted.items()))
    return ours + [state for state in others if state is not None]


def _trusted(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the files with authorities of servers that we call, each with its section."""
    provider = settings.web.openid_connect
    named = [("[alerts]", settings.alerts.ca), ("[audit]", settings.audit.ca)]
    named += [("[web.openid_connect]", provider.ca)] if settings.web.enabled and provider.is_on else []
    named += [(f"[[copy]] {copy.name}", copy.ca) for copy in settings.copy]
    return ((section, settings.home / Path(ca).expanduser()) for section, ca in named if ca)


def _state_of_authorities(section: str, file: Path, now: datetime) -> CertificateState | None:
    """Look when the last authority of a file ends; None where nothing can be read: who needs it says so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except (OSError, ValueError):
        return None
    seconds = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()]
    if not seconds:
        return None
    until = datetime.fromtimestamp(max(seconds), UTC)
    if until - now >= _EXPIRES_SOON:
        return CertificateState(section, until)
    ask = "ask those who run that server for the next one"
    if until <= now:
        return CertificateState(section, None, f"{section} ca {file} has ended on {until:%Y-%m-%d}: {ask}")
    return CertificateState(section, until, f"{section} ca {file} is valid until {until:%Y-%m-%d} only: {ask}")


def _state_of(section: str, files: tuple[Path, Path, Path | None], now: datetime) -> CertificateState:
    from backup_scp.dimse.upper_layer.tls import Credentials, acceptor_context, first_end

    credentials = Credentials(*files, section=section)
    try:
        acceptor_context(credentials)
        until, which = first_end(credentials)
    except InvalidSettings as error:
        return CertificateState(section, None, str(error))
    if until - now >= _EXPIRES_SOON:
        return CertificateState(section, until)
    renew = "renew it (backup-scp tls renew, if tls init made it)"
    return CertificateState(section, until, f"{which} is valid until {until:%Y-%m-%d} only: {renew}")
