"""Tell who may do what, in a line for each remote AE."""

from __future__ import annotations

from collections.abc import Iterator

from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.settings import Settings
from backup_scp.ports import RemoteAE
from backup_scp.services.permissions import RIGHT_TO_USE, Right, remote_may


def access(settings: Settings) -> Iterator[Finding]:
    """Yield a line for each remote AE, and one for all others."""
    for remote in settings.remotes:
        yield Finding(f"access {remote.name}", Severity.OK, f"{remote.ae_title} {_calling(remote)} {_may(remote)}")
    refused = "are refused" if settings.node.strangers == "refuse" else "may echo and store, and commit what they sent"
    yield Finding("access", Severity.OK, f"callers that are no [[remote]] {refused}")


def _calling(remote: RemoteAE) -> str:
    places = " or ".join((remote.host, *remote.networks)) if remote.check_address else "any address"
    secured = " with TLS" if remote.tls_required else ""
    named = f" and a certificate of {' or '.join(sorted(remote.certificate))}" if remote.certificate else ""
    return f"from {places}{secured}{named}"


def _may(remote: RemoteAE) -> str:
    uses = [str(service) for service, right in RIGHT_TO_USE.items() if remote_may(remote, right)]
    if remote_may(remote, Right.RECEIVE):
        uses.append("be sent images")
    return f"may {', '.join(uses)}" if uses else "may only echo"
