"""Who we are when we call others."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from backup_scp.dimse.upper_layer.timing import Timing


@dataclass(frozen=True, slots=True)
class LocalAE:
    """Our own Application Entity, as the requestor of Associations.

    Attributes
    ----------
    tls
        What Associations to remote AEs with TLS are secured with; None when there is no certificate to show.
    """

    ae_title: str
    timing: Timing = field(default_factory=Timing)
    tls: ssl.SSLContext | None = None
