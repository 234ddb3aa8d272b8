"""Name the clinic that a DICOMweb request is for, in a header that another backup-scp repeats (docs/adr/0069)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote

SITE_HEADER = "Backup-SCP-Site"


def naming(site: str) -> dict[str, str]:
    """Return the header that names a site, percent-encoded in UTF-8; none for no site."""
    return {SITE_HEADER: quote(site, safe="", errors="surrogatepass")} if site else {}


def site_in(headers: Mapping[str, str]) -> str:
    """Return the site that headers name; empty for none."""
    return unquote(headers.get(SITE_HEADER, ""))


def is_answered(headers: Mapping[str, str], site: str) -> bool:
    """Tell whether an answer says that it is for this site alone."""
    return site_in(headers) == site
