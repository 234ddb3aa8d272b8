"""What the web room is told by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BASE_PATH = "/dicom-web"
"""Path of the DICOMweb services; everything else on the port is free for pages."""


SHARE_PATH = "/share/"
"""What is below it is for share links: it counts there who has opened one, and nothing else."""


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Who may call, and how.

    Attributes
    ----------
    ae_title
        The node's AE title, for Retrieve AE Title.
    trust_this_machine
        Whether callers on this computer need no token.
    tokens
        The bearer tokens that open it.
    bringing
        Tokens of other nodes: each may name a site of its line, and store and read for that one.
    token_sites
        The sites that a token is for, the one that it stores for first; of a token that is not here, all sites.
    certificate, key, ca
        Files for HTTPS; None for HTTP.  With ``ca`` each caller needs a certificate of it.
    cors
        Origins whose scripts may call from a browser.
    public_url, proxies
        How callers reach the service through a reverse proxy, and whose word on a caller counts; see ``Forwarding``.
    """

    ae_title: str = "BACKUP_SCP"
    trust_this_machine: bool = True
    tokens: frozenset[str] = frozenset()
    bringing: frozenset[str] = frozenset()
    token_sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    cors: tuple[str, ...] = ()
    public_url: str = ""
    proxies: tuple[str, ...] = ()
