"""Our own Application Entity, for calls to other AEs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from backup_scp.dimse.upper_layer.timing import Timing


@dataclass(frozen=True, slots=True)
class LocalAE:
    """Our own Application Entity as requestor of Associations.

    Attributes
    ----------
    tls
        TLS context for calls to remote AEs with TLS; None when the settings have no certificate.
    as_site
        The clinic that Associations are for, at another backup-scp; empty for none.
    """

    ae_title: str
    timing: Timing = field(default_factory=Timing)
    tls: ssl.SSLContext | None = None
    as_site: str = ""
