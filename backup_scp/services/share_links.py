"""Make links that show one study, and open them with their PIN (docs/adr/0064)."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Condition, Query, SingleValue
from backup_scp.errors import InvalidSelection, Refused
from backup_scp.machine import clock
from backup_scp.machine.recent import Recent
from backup_scp.ports import (
    Accounts,
    AuditEvent,
    AuditKind,
    ShareLink,
    ShareSession,
    SiteScope,
    StudyReader,
)
from backup_scp.services.backoff import Backoff, network_of
from backup_scp.services.logins import TooManyAttempts
from backup_scp.services.passwords import hashed_pin, is_right_pin
from backup_scp.services.secret_tokens import digest_of, new_token
from backup_scp.services.user_changes import Actor

MOST_DAYS = 365
MOST_FAILURES = 20
"""After so many attempts with a wrong PIN a link is locked, until somebody who may share unlocks it."""

SESSION = timedelta(minutes=60)
_PIN_DIGITS = 6
_LONGEST_NOTE = 100
_REMEMBERED = 20_000  # looks that the audit has
_UID = BY_KEYWORD["StudyInstanceUID"]


class WrongPin(Refused):
    """The PIN is wrong."""


class ShareLocked(Refused):
    """Too many attempts had a wrong PIN."""


@dataclass(frozen=True, slots=True)
class NewShare:
    """A link as its maker sees it, once.

    Attributes
    ----------
    link
        As it is stored.
    token, pin
        What opens it; neither is stored.
    """

    link: ShareLink
    token: str = field(repr=False)
    pin: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenedShare:
    """A link that this browser has opened with the PIN.

    Attributes
    ----------
    link
        The link.
    session
        Digest of the token of this browser.
    """

    link: ShareLink
    session: str


class ShareLinks:
    """Makes, opens and revokes links.

    Parameters
    ----------
    accounts
        Keeps them, and the audit.
    index
        Tells whether the study of a link is still there.
    """

    def __init__(self, accounts: Accounts, index: StudyReader) -> None:
        self._accounts = accounts
        self._index = index
        self._by_link = Backoff(accounts, "share link", free=4)
        self._by_network = Backoff(accounts, "address of a share link", free=20)
        self._made = Backoff(accounts, "share links made", free=100, longest_s=60)
        self._saved = Backoff(accounts, "share link saved", free=30)
        self._looks: Recent[str] = Recent(_REMEMBERED)

    def make(
        self, study_instance_uid: str, site: str, made_for: str, days: int, by: Actor, *, may_save: bool = True
    ) -> NewShare:
        """Make a link to a study of one clinic, with a PIN.

        Raises
        ------
        InvalidSelection
            There is no such study, or the days or the note cannot be.
        TooManyAttempts
            This person made very many within the last hour.
        """
        note = " ".join(made_for.split())
        if not note or len(note) > _LONGEST_NOTE or not note.isprintable():
            raise InvalidSelection(f"Say for whom the link is, with 1 to {_LONGEST_NOTE} characters")
        if not 1 <= days <= MOST_DAYS:
            raise InvalidSelection(f"A link is valid for 1 to {MOST_DAYS} days")
        if not self._is_there(study_instance_uid, site):
            raise InvalidSelection("There is no such study")
        if wait_s := self._made.begin(by.who):
            raise TooManyAttempts(wait_s)
        token, pin, now = new_token(), f"{secrets.randbelow(10**_PIN_DIGITS):0{_PIN_DIGITS}}", clock.now()
        link = ShareLink(
            number=0,
            digest=digest_of(token),
            pin_hash=hashed_pin(pin, token),
            study_instance_uid=study_instance_uid,
            site=site,
            may_save=may_save,
            made_by=by.who,
            made_for=note,
            made_at=now,
            until=now + timedelta(days=days),
        )
        stored = self._accounts.add_share(link)
        self._record(AuditKind.SHARE_MADE, by.who, f"{_name(stored)}, {study_mark(stored)}", by.address)
        return NewShare(stored, token, pin)

    def shared(self, token: str) -> ShareLink | None:
        """Find the link of a token; None when there is none, it has ended, or its study is not to be seen any more."""
        link = self._accounts.share(digest_of(token))
        return link if link is not None and self._works(link) else None

    def open(self, token: str, pin: str, address: str) -> tuple[ShareLink, str] | None:
        """Compare the PIN; return the link and the token of a session, None when there is no such link.

        Raises
        ------
        WrongPin, ShareLocked, TooManyAttempts
        """
        link = self.shared(token)
        if link is None:
            return None
        if link.failures >= MOST_FAILURES:
            raise _locked()
        network = network_of(address)
        if wait_s := self._by_network.begin(network) or self._by_link.begin(link.digest):
            raise TooManyAttempts(wait_s)
        if not self._accounts.begin_try(link.number, MOST_FAILURES):
            raise _locked()
        if not is_right_pin(link.pin_hash, pin, token):
            self._failed(link, address)
            raise WrongPin("The PIN is wrong")
        self._by_network.succeeded(network)
        self._by_link.succeeded(link.digest)
        session, now = new_token(), clock.now()
        self._accounts.open_share(link.number, ShareSession(digest_of(session), now + SESSION), now)
        self._record(AuditKind.SHARE_OPENED, _name(link), study_mark(link), address)
        return link, session

    def _failed(self, link: ShareLink, address: str) -> None:
        self._record(AuditKind.SHARE_FAILED, _name(link), study_mark(link), address)
        now = self._accounts.share_numbered(link.number)
        if now is not None and now.failures >= MOST_FAILURES:
            self._record(AuditKind.SHARE_LOCKED, _name(link), study_mark(link), address)

    def opened(self, token: str, session: str) -> OpenedShare | None:
        """Find what a browser has opened; None when that has ended, at whatever end."""
        digest = digest_of(session)
        found = self._accounts.share_of_session(digest, digest_of(token)) if session else None
        if found is None or not self._works(found[0]):
            return None
        rest = found[1].until - clock.now()
        return OpenedShare(found[0], digest) if timedelta() < rest <= SESSION + clock.TOLERANCE else None

    def close(self, opened: OpenedShare) -> None:
        """End what a browser has opened."""
        self._accounts.end_share_session(opened.session)

    def note_look(self, opened: OpenedShare, what: str, address: str) -> None:
        """Add to the audit that pictures are shown: once for each opening and series."""
        key = f"{opened.session} {what}"
        if self._looks.get(key) is None:
            self._looks.keep(key, key)
            self._record(AuditKind.SHARE_LOOKED, _name(opened.link), study_mark(opened.link), address)

    def note_save(self, opened: OpenedShare, kind: str, address: str) -> None:
        """Add to the audit that the study is downloaded.

        Raises
        ------
        TooManyAttempts
            That was done very often in the last hour.
        """
        if wait_s := self._saved.begin(opened.link.digest):
            raise TooManyAttempts(wait_s)
        self._record(AuditKind.SHARE_SAVED, _name(opened.link), f"{study_mark(opened.link)}, {kind}", address)

    def links(self, scope: SiteScope, most: int, before: int = 0, study_instance_uid: str = "") -> list[ShareLink]:
        """Return links to studies of some clinics, the newest first."""
        return self._accounts.shares(scope, most, before, study_instance_uid)

    def revoke(self, number: int, scope: SiteScope, by: Actor) -> ShareLink:
        """Revoke a link: who has opened it is out with the next request.

        Raises
        ------
        InvalidSelection
            There is no such link of these clinics.
        """
        link = self._numbered(number, scope)
        self._accounts.revoke_share(number, clock.now())
        self._record(AuditKind.SHARE_REVOKED, by.who, _name(link), by.address)
        return link

    def unlock(self, number: int, scope: SiteScope, by: Actor) -> ShareLink:
        """Let the PIN be tried again.

        Raises
        ------
        InvalidSelection
            There is no such link of these clinics.
        """
        link = self._numbered(number, scope)
        self._accounts.unlock_share(number)
        self._by_link.succeeded(link.digest)
        self._record(AuditKind.SHARE_UNLOCKED, by.who, _name(link), by.address)
        return link

    def _numbered(self, number: int, scope: SiteScope) -> ShareLink:
        link = self._accounts.share_numbered(number)
        if link is None or not scope.holds(link.site):
            raise InvalidSelection("There is no such link")
        return link

    def _works(self, link: ShareLink) -> bool:
        return lasts(link) and self._is_there(link.study_instance_uid, link.site)

    def _is_there(self, study_instance_uid: str, site: str) -> bool:
        wanted = (Condition(_UID, SingleValue(study_instance_uid)),)
        seen = self._index.seen_by(SiteScope(frozenset({site})))  # not ``of``: no name is all sites here
        with closing(seen.search(Query(Level.STUDY, wanted, (_UID,)))) as found:
            return next(iter(found), None) is not None

    def _record(self, kind: AuditKind, who: str, about: str, address: str) -> None:
        self._accounts.record(AuditEvent(clock.now(), kind, who, about, address))


def _locked() -> ShareLocked:
    return ShareLocked("Too many attempts had a wrong PIN")


def lasts(link: ShareLink) -> bool:
    """Tell whether a link has neither ended nor was revoked."""
    return link.revoked_at is None and clock.now() < link.until <= clock.horizon() + timedelta(days=MOST_DAYS)


def study_mark(link: ShareLink) -> str:
    """Return the name of a link's study in the audit: the same for all its links, and without a word of the patient."""
    return f"study {hashlib.sha256(link.study_instance_uid.encode()).hexdigest()[:10]}"


def _name(link: ShareLink) -> str:
    return f"link {link.number}"
