"""Links that show one study to a physician or patient who has no login (docs/adr/0064)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from backup_scp.ports.sites import SiteScope


@dataclass(frozen=True, slots=True)
class ShareLink:
    """A link to one study of one clinic.

    Attributes
    ----------
    number
        Its number; 0 before it is stored.
    digest
        SHA-256 of its token, which only the link has.
    pin_hash
        Argon2id of PIN and token together.
    study_instance_uid, site
        The study, and the clinic whose images it shows.
    may_save
        Whether the study may be downloaded.
    made_by, made_for
        Who made it; and for whom, as a person typed it.
    made_at, until
        When it was made, and when it ends.
    opened, opened_at
        How often it was opened with the PIN, and when last.
    failures
        Attempts with a wrong PIN since then.
    revoked_at
        When it was revoked; None before.
    """

    number: int
    digest: str
    pin_hash: str
    study_instance_uid: str
    site: str
    may_save: bool
    made_by: str
    made_for: str
    made_at: datetime
    until: datetime
    opened: int = 0
    opened_at: datetime | None = None
    failures: int = 0
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ShareSession:
    """A browser that has opened a link.

    Attributes
    ----------
    digest
        SHA-256 of its token, which only the browser has.
    until
        When it ends.
    """

    digest: str
    until: datetime


class ShareRecords(Protocol):
    """Share links, and the browsers that have opened them."""

    def add_share(self, link: ShareLink) -> ShareLink:
        """Store a link; return it with its number."""

    def share(self, digest: str) -> ShareLink | None:
        """Find a link by the digest of its token: one look into one index."""

    def share_numbered(self, number: int) -> ShareLink | None:
        """Find a link by its number."""

    def shares(self, scope: SiteScope, most: int, before: int = 0, study_instance_uid: str = "") -> list[ShareLink]:
        """Return links of some clinics, the newest first: of one study or all, with numbers below ``before``."""

    def begin_try(self, number: int, most: int) -> bool:
        """Count an attempt as failed before the PIN is compared; False when there were ``most`` already."""

    def open_share(self, number: int, session: ShareSession, at: datetime) -> None:
        """Store the session of who knew the PIN, count it, forget failures, and remove sessions that have ended."""

    def share_of_session(self, digest: str, link_digest: str) -> tuple[ShareLink, ShareSession] | None:
        """Find the session of a link."""

    def end_share_session(self, digest: str) -> None:
        """End a session."""

    def revoke_share(self, number: int, at: datetime) -> None:
        """Revoke a link, and end its sessions."""

    def unlock_share(self, number: int) -> None:
        """Forget the failures of a link."""
