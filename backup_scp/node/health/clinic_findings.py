"""Who sees more than one clinic, although nobody has said so."""

from __future__ import annotations

from collections.abc import Iterator

from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.settings import Settings
from backup_scp.ports import STORING_SERVICES


def clinics(settings: Settings) -> Iterator[Finding]:
    """Name the devices without a site where two clinics share the node."""
    sites = {site for remote in settings.remotes for site in (remote.site, *remote.brings_sites) if site}
    if len(sites) < 2:
        return
    for remote in settings.remotes:
        if remote.services - STORING_SERVICES and remote.scope.is_all and not remote.sites:
            sentence = f"[[remote]] {remote.name} has no site: it finds and fetches the images of all clinics"
            fix = 'if that is right, say so: sites = ["*"]; else name its site or sites'
            yield Finding("clinics", Severity.NOTE, sentence, fix)
