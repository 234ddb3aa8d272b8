"""Call another backup-scp that keeps clinics apart: on an Association for each of them (docs/adr/0069)."""

from __future__ import annotations

from dataclasses import replace

from backup_scp.dimse.association.association import LocalAE
from backup_scp.dimse.scu.query_scu import StudyCounter
from backup_scp.ports import RemoteAE


def ae_for(local: LocalAE, remote: RemoteAE, site: str) -> LocalAE:
    """Return our AE for Associations about images of a site: they name it, where it passes under its name."""
    return replace(local, as_site=site if site in remote.brings_sites else "")


class CounterOfSites:
    """Counts the images of a study at a remote AE, of all sites, as ``ports.Inventory``."""

    def __init__(self, local: LocalAE, remote: RemoteAE) -> None:
        self._counters = [StudyCounter(ae_for(local, remote, site), remote) for site in ("", *remote.brings_sites)]

    @property
    def implementation(self) -> str:
        """See ``ports.Inventory``."""
        return self._counters[0].implementation

    def connect(self) -> None:
        """See ``ports.Inventory``."""
        for counter in self._counters:
            counter.connect()

    def disconnect(self) -> None:
        """See ``ports.Inventory``."""
        for counter in self._counters:
            counter.disconnect()

    def count(self, study_instance_uid: str) -> int | None:
        """See ``ports.Inventory``."""
        counts = [counter.count(study_instance_uid) for counter in self._counters]
        known = [number for number in counts if number is not None]
        return sum(known) if len(known) == len(counts) else None
