"""What the pages are made from: given by the node, which stands above this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Self

from backup_scp.ports import SEES_ALL, IndexRecords, RemoteAE, SettingsFile, SiteScope
from backup_scp.services.logins import Logins
from backup_scp.services.parcels import StudyParcels
from backup_scp.services.provider_logins import ProviderLogins
from backup_scp.services.share_links import ShareLinks
from backup_scp.web.pages.backup_state import BackupState
from backup_scp.web.stores import Stores


@dataclass(frozen=True)
class PageSources:
    """What handlers of pages use.

    Attributes
    ----------
    stores
        Archive and index.
    state
        Asks for the state of the backup, as ``status --json`` prints it; takes up to some seconds.
    records
        The node's other records.
    copies_of
        Tells for each location which copies have its version.
    remotes
        The devices of the settings.
    node
        Names this node among those that share an index.
    receipts
        The folder of the receipts of restores.
    order_restore
        Tells the node that a restore was ordered.
    settings
        The settings file; None where no page shows it.
    is_ending
        Set when the web process ends: answers that have no end of their own end then.
    parcels
        Makes what people take along of a study.
    scope
        The clinics whose images the caller may see.
    logins
        The users; None without any.
    shares
        The share links; None without any.
    share_address
        What stands before the path of a share link; empty when nobody elsewhere could open one.
    provider
        Logs users in who come from a provider elsewhere; None without one.
    """

    stores: Stores
    state: Callable[[], BackupState]
    records: IndexRecords
    copies_of: Callable[[Sequence[str]], dict[str, set[str]]]
    remotes: Sequence[RemoteAE] = ()
    node: str = ""
    receipts: Path = Path()
    order_restore: Callable[[], object] = lambda: None
    settings: SettingsFile | None = None
    is_ending: Event = field(default_factory=Event)
    logins: Logins | None = None
    parcels: StudyParcels = field(default_factory=StudyParcels)
    shares: ShareLinks | None = None
    share_address: str = ""
    provider: ProviderLogins | None = None
    scope: SiteScope = SEES_ALL

    @property
    def clinics(self) -> list[str]:
        """The clinics that the caller may see, as far as the settings or its own scope name them."""
        scopes = (*(remote.scope for remote in self.remotes), self.scope)
        named = {remote.site for remote in self.remotes}.union(*(scope.sites or () for scope in scopes))
        return sorted(site for site in named if self.scope.holds(site))

    @property
    def provider_label(self) -> str:
        """What people call the provider of logins; empty without one."""
        return self.provider.provider.label if self.provider is not None else ""

    def seen_by(self, scope: SiteScope) -> Self:
        """Return the same without what belongs to other clinics."""
        remotes = [remote for remote in self.remotes if remote.scope.meets(scope)]
        return replace(self, stores=self.stores.seen_by(scope), remotes=remotes, scope=scope)
