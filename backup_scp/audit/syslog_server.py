"""Send messages to a syslog server over TLS (RFC 5425), so that it is known what the server has read."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backup_scp.audit.syslog_message import framed
from backup_scp.audit.tls_stream import TLSStream

_TIMEOUT_S = 15.0
_ALERT_S = 2.0
_IS_IT_ON = "is it on, does it listen there, and is its port open in its firewall?"


class SyslogFailed(Exception):  # noqa: N818 - it says what happened
    """The server did not take everything; the text says why, and ``fix`` what to do."""

    def __init__(self, sentence: str, fix: str) -> None:
        super().__init__(sentence)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class SyslogServer:
    """A server, and how it is known.

    Attributes
    ----------
    host, port
        Where it is.
    ca
        File of the CA that its certificate must be of; None for those that this computer trusts.
    certificate, key
        Files of what this node shows; None for nothing.
    """

    host: str
    port: int
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def name(self) -> str:
        """Its address, for people."""
        return f"{self.host}:{self.port}"

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages in a connection of their own; on return the server has read all of them.

        Syslog knows no answer.  So we end the connection, and wait for the server's close_notify (docs/adr/0085).

        Raises
        ------
        SyslogFailed
            Nothing is known of any of them: send them again.
        """
        context = self._context()
        try:
            with socket.create_connection((self.host, self.port), _TIMEOUT_S) as bare:
                stream = TLSStream(bare, context, self.host)
                stream.send(b"".join(map(framed, messages)))
                stream.finish()
        except OSError as error:
            is_told = isinstance(error, ssl.SSLError | TimeoutError) and not isinstance(error, ssl.SSLEOFError)
            raise self._failed(error if is_told else self._alert() or error) from None

    def _alert(self) -> ssl.SSLError | None:
        """Ask once more, and wait for what TLS says: behind data that nobody reads it may have been lost.

        In TLS 1.3 a server refuses a certificate, or none, after our side has begun to send.
        """
        try:
            with socket.create_connection((self.host, self.port), _TIMEOUT_S) as bare:
                stream = TLSStream(bare, self._context(), self.host)
                bare.settimeout(_ALERT_S)
                stream.read()
        except ssl.SSLEOFError:
            pass
        except ssl.SSLError as error:
            return error
        except OSError:
            pass
        return None

    def _failed(self, error: OSError) -> SyslogFailed:
        if isinstance(error, ssl.SSLCertVerificationError):
            return SyslogFailed(*self._distrusted(error))
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return SyslogFailed(*self._refused(error))
        if isinstance(error, ssl.SSLEOFError):
            told = f"the syslog server {self.name} broke off, without the end that TLS asks for (close_notify)"
            return SyslogFailed(
                told, "was it stopped? One that always ends so cannot be used: nobody knows what it has"
            )
        if isinstance(error, TimeoutError):
            return SyslogFailed(f"the syslog server {self.name} does not answer in time", _IS_IT_ON)
        reason = error.strerror or type(error).__name__
        return SyslogFailed(f"the syslog server {self.name} cannot be reached ({reason})", _IS_IT_ON)

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "they are no certificate and key in PEM without a password"
            raise SyslogFailed(
                f"the files of [audit] cannot be used ({reason})", "look at ca, certificate and key in [audit]"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _distrusted(self, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
        if "mismatch" in error.verify_message.lower() or "not valid for" in error.verify_message:
            told = f"the certificate of the syslog server is not of the name {self.host}"
            return told, "write the name that is in its certificate into syslog of [audit]"
        if "expired" in error.verify_message:
            return f"the certificate of the syslog server {self.name} has expired", "let who looks after it renew it"
        told = f"the certificate of the syslog server {self.name} is not trusted ({error.verify_message})"
        return told, "name the file of the CA that has signed it, in ca of [audit]"

    def _refused(self, error: ssl.SSLError) -> tuple[str, str]:
        reason = (error.reason or "TLS failed").replace("_", " ").lower()
        if "wrong version number" in reason or "record layer failure" in reason or "packet length" in reason:
            return f"{self.name} does not speak TLS", "syslog over TLS often has port 6514; 514 is without"
        told = f"the syslog server {self.name} refuses our connection ({reason})"
        return told, "does it ask for a certificate? Name one that it trusts, in certificate and key of [audit]"


def _no_password() -> str:
    """Raise instead of asking for a password: nobody is there to type it."""
    raise ValueError("the key has a password")
