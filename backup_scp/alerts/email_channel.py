"""Send alerts by e-mail, through a mail server that the settings name (SMTP, RFC 5321)."""

from __future__ import annotations

import logging
import platform
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from enum import StrEnum
from pathlib import Path

from backup_scp.errors import AlertNotSent
from backup_scp.ports import Alert

log = logging.getLogger(__name__)

_WHOLE_SUBJECTS = policy.default.clone(max_line_length=200)  # else a long one begins on the second line of its header


class MailSecurity(StrEnum):
    """How the connection is encrypted."""

    TLS = "tls"  # from the first byte, usually on port 465
    STARTTLS = "starttls"  # a server that does not offer it gets nothing
    NONE = "none"


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server, and how we log in there.

    Attributes
    ----------
    ca
        PEM file of its CA; None for those that this computer trusts.
    user, password
        Empty for no login.
    timeout_s
        For each step, in seconds.
    """

    host: str
    port: int
    security: MailSecurity
    ca: Path | None = None
    user: str = ""
    password: str = ""
    timeout_s: float = 30


class EmailChannel:
    """Implements ``ports.AlertChannel``."""

    name = "e-mail"

    def __init__(self, server: MailServer, sender: str, recipients: Sequence[str]) -> None:
        self._server = server
        self._sender = sender
        self._recipients = recipients

    def send(self, alert: Alert) -> None:
        """Hand it to the mail server, which has taken it for one recipient at least."""
        server = self._server
        try:
            with self._connect() as smtp:
                if server.user:
                    smtp.login(server.user, server.password)
                refused = smtp.send_message(self._message(alert), self._sender, self._recipients)
        except smtplib.SMTPAuthenticationError:
            raise self._not_sent("it does not accept user and password") from None
        except smtplib.SMTPRecipientsRefused:
            raise self._not_sent("it refuses every recipient") from None
        except smtplib.SMTPResponseException as error:
            raise self._not_sent(f"it answers {error.smtp_code}") from None
        except smtplib.SMTPNotSupportedError:
            raise self._not_sent("it offers no STARTTLS, or no login: see smtp_security of [alerts]") from None
        except ssl.SSLCertVerificationError:
            raise self._not_sent("its certificate is not trusted: name its CA in ca of [alerts]") from None
        except (smtplib.SMTPException, OSError) as error:
            raise self._not_sent(getattr(error, "strerror", None) or type(error).__name__) from None
        if refused:
            told = len(self._recipients) - len(refused)
            log.warning("An alert reached %d recipients; %s refuses the %d others", told, server.host, len(refused))

    def _connect(self) -> smtplib.SMTP:
        server, us = self._server, platform.node() or "localhost"
        if server.security is MailSecurity.TLS:
            return smtplib.SMTP_SSL(server.host, server.port, us, timeout=server.timeout_s, context=self._context())
        smtp = smtplib.SMTP(server.host, server.port, us, timeout=server.timeout_s)
        try:
            if server.security is MailSecurity.STARTTLS:
                smtp.starttls(context=self._context())
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._server.ca)

    def _message(self, alert: Alert) -> EmailMessage:
        message = EmailMessage(_WHOLE_SUBJECTS)
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Subject"] = " ".join(alert.subject.split())
        message["Date"] = format_datetime(alert.at)
        domain = self._sender.rpartition("@")[2]
        message["Message-ID"] = f"<{alert.number}@{domain}>" if alert.number else make_msgid(domain=domain)
        if before := [f"<{number}@{domain}>" for number in alert.answers]:  # in one thread, RFC 5322 3.6.4
            message["In-Reply-To"] = before[0]
            message["References"] = " ".join(before)
        message["Auto-Submitted"] = "auto-generated"  # no answer by a machine, RFC 3834
        message.set_content(alert.text)
        return message

    def _not_sent(self, reason: str) -> AlertNotSent:
        return AlertNotSent(f"The mail server {self._server.host}, port {self._server.port}, took no alert: {reason}")
