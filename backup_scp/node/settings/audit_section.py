"""``[audit]``: where the audit log goes besides."""

from __future__ import annotations

import re

from msgspec import Struct

_SERVER = re.compile(r"tls://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+)(:(?P<port>\d{1,5}))?/?")
_USUAL_PORT = 6514  # RFC 5425 4.1
_MOST_PORT = 65535


class AuditSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[audit]``: a syslog server that gets each entry of the audit log, over TLS."""

    syslog: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if self.syslog and (not _SERVER.fullmatch(self.syslog) or not 0 < self.syslog_server[1] <= _MOST_PORT):
            raise ValueError('syslog: write "tls://HOST:PORT"; the usual port is 6514')
        if not self.syslog and (self.ca or self.certificate or self.key):
            raise ValueError("ca, certificate, key: name the server in syslog as well")
        if self.key and not self.certificate:
            raise ValueError("key: name its certificate as well")

    @property
    def syslog_server(self) -> tuple[str, int]:
        """Host and port."""
        found = _SERVER.fullmatch(self.syslog)
        if found is None:
            return "", 0
        return found["host"].strip("[]"), int(found["port"] or _USUAL_PORT)
