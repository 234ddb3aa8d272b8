"""Name devices in metrics by the settings alone: each name that a stranger chooses would be a time series."""

from __future__ import annotations

from collections.abc import Sequence

from backup_scp.ports import RemoteAE

OTHER = "other"
"""Whoever is not in the settings."""

_NAMED_BY_SETTINGS = frozenset({"certificate", "copies", "drill"})


class DeviceLabels:
    """The values that the label of a device may have.

    Parameters
    ----------
    remotes
        The devices of the settings.
    """

    def __init__(self, remotes: Sequence[RemoteAE]) -> None:
        self._names = frozenset(remote.name for remote in remotes)
        self._by_both = {(remote.ae_title, remote.host): remote.name for remote in reversed(remotes)}
        self._by_title = {remote.ae_title: remote.name for remote in reversed(remotes)}
        self._by_host = {remote.host: remote.name for remote in reversed(remotes)}

    def of_caller(self, ae_title: str, address: str) -> str:
        """Name the device that has both, or else one of them; ``other`` without any."""
        both = self._by_both.get((ae_title, address))
        return both or self._by_title.get(ae_title) or self._by_host.get(address) or OTHER

    def of_console(self, console: str) -> str:
        """Name a console that the index has by its name in the settings, or by its AE title."""
        return console if console in self._names else self._by_title.get(console, OTHER)

    def of_finding(self, what: str, subject: str) -> str:
        """Name whom a finding is about; empty for the node."""
        if not subject or what in _NAMED_BY_SETTINGS:
            return subject.strip()
        ae_title, _, address = subject.rpartition(" at ")
        return self.of_caller(ae_title, address) if ae_title else self.of_console(subject)
