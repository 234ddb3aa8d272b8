"""Add, change and remove users, each change with a line in the audit."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock
from backup_scp.ports import (
    EVERY_SITE,
    Accounts,
    AuditEvent,
    AuditKind,
    FederatedIdentity,
    LinkKind,
    OneTimeLink,
    Passkey,
    Role,
    User,
    UserCredentials,
    site_fault,
)
from backup_scp.services import one_time_codes, passwords
from backup_scp.services.passkeys import NewPasskey, new_handle
from backup_scp.services.secret_tokens import digest_of, new_token

PASSWORD_WITHIN = timedelta(days=3)
FIRST_WITHIN = timedelta(hours=1)
_LONGEST_NAME = 64
_MOST_PASSKEYS = 20


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes users: a name for the audit, and an address."""

    who: str
    address: str = ""


class UserChanges:
    """Changes users.

    Parameters
    ----------
    accounts
        The users.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def add(self, name: str, roles: Mapping[str, Role], by: Actor, identity: FederatedIdentity | None = None) -> User:
        """Add a user without a password, perhaps one who logs in at a provider.

        Raises
        ------
        InvalidSelection
        """
        name = good_name(name)
        require_good_roles(roles)
        user = self._accounts.add_user(name, roles, clock.now(), identity)
        self._record(AuditKind.USER_ADDED, by, name)
        return user

    def found(self, name: str) -> User:
        """Find a user.

        Raises
        ------
        InvalidSelection
        """
        known = self._accounts.credentials(name)
        if known is None:
            raise InvalidSelection("There is no user with this name: backup-scp users list  shows all")
        return known.user

    def new_link(self, user: User, kind: LinkKind = LinkKind.PASSWORD) -> str:
        """Make the link at which a user chooses a password, or logs in at the provider; return its token."""
        token = new_token()
        link = OneTimeLink(digest_of(token), kind, clock.now() + PASSWORD_WITHIN, user.id)
        self._accounts.add_link(link)
        return token

    def unlink(self, user: User, by: Actor) -> None:
        """Let a user no longer log in at the provider, and end all sessions."""
        self._accounts.set_identity(user.id, None)
        self._record(AuditKind.UNLINKED, by, user.name)

    def reset(self, user: User, by: Actor) -> str:
        """Take password, codes and passkeys away, end all sessions; return the token of a link for a new password."""
        self._accounts.set_password(user.id, "")
        self._accounts.set_codes(user.id, "", [])
        self._accounts.remove_passkeys(user.id)
        self._record(AuditKind.USER_RESET, by, user.name)
        return self.new_link(user)

    def set_password(self, user: User, password: str, by: Actor) -> None:
        """Set a password, and end the sessions with the old one.

        Raises
        ------
        InvalidSelection
            It is easy to guess.
        """
        passwords.require_good(password, user.name)
        self._accounts.set_password(user.id, passwords.hashed(password))
        self._record(AuditKind.PASSWORD_CHOSEN, by, user.name)

    def set_roles(self, user: User, roles: Mapping[str, Role], by: Actor) -> None:
        """Set the roles.

        Raises
        ------
        InvalidSelection
        """
        require_good_roles(roles)
        if roles.get(EVERY_SITE) is not Role.ADMINISTER:
            self._require_another_administrator(user)
        self._accounts.set_roles(user.id, roles)
        self._record(AuditKind.USER_CHANGED, by, user.name)

    def set_disabled(self, user: User, by: Actor, *, is_disabled: bool) -> None:
        """Disable a user, and end its sessions; or enable it."""
        if is_disabled:
            self._require_another_administrator(user)
        self._accounts.set_disabled(user.id, is_disabled=is_disabled)
        self._record(AuditKind.USER_DISABLED if is_disabled else AuditKind.USER_ENABLED, by, user.name)

    def remove(self, user: User, by: Actor) -> None:
        """Remove a user."""
        self._require_another_administrator(user)
        self._accounts.remove_user(user.id)
        self._record(AuditKind.USER_REMOVED, by, user.name)

    def turn_codes_on(self, user: User, secret: str, code: str, by: Actor) -> list[str]:
        """Turn codes on, when the app shows the right one; return the recovery codes, which are shown once.

        Raises
        ------
        InvalidSelection
        """
        step = one_time_codes.step_of(secret, code, clock.now())
        if step is None:
            raise InvalidSelection("This code is wrong: is the phone's clock right? Try the next one")
        codes = one_time_codes.new_recovery_codes()
        self._accounts.set_codes(user.id, secret, [one_time_codes.recovery_digest(each) for each in codes], step)
        self._record(AuditKind.CODES_ON, by, user.name)
        return codes

    def turn_codes_off(self, user: User, by: Actor) -> None:
        """Turn codes off; the recovery codes stay for a user with passkeys."""
        self._accounts.set_codes(user.id, "", None if user.has_passkeys else [])
        self._record(AuditKind.CODES_OFF, by, user.name)

    def handle_of(self, user: User) -> str:
        """Return what the user's devices call it; another one for a user without passkeys."""
        return next((passkey.handle for passkey in self._accounts.passkeys(user.id)), "") or new_handle()

    def add_passkey(self, user: User, made: NewPasskey, rp_id: str, handle: str, name: str, by: Actor) -> list[str]:
        """Add a passkey; return the recovery codes, which are shown once, for a user who had none.

        Raises
        ------
        InvalidSelection
        """
        if len(self._accounts.passkeys(user.id)) >= _MOST_PASSKEYS:
            raise InvalidSelection(f"A user has at most {_MOST_PASSKEYS} passkeys: remove one")
        name = " ".join(name.split())
        if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
            raise InvalidSelection(f"A passkey's name has 1 to {_LONGEST_NAME} letters, digits, signs and blanks")
        has_codes = self._accounts.recovery_codes_left(user.id) > 0
        codes = [] if has_codes else one_time_codes.new_recovery_codes()
        passkey = Passkey(
            0, user.id, made.credential_id, made.public_key, rp_id, handle, name, clock.now(), None, made.sign_count
        )
        self._accounts.add_passkey(passkey, [one_time_codes.recovery_digest(each) for each in codes])
        self._record(AuditKind.PASSKEY_ADDED, by, user.name)
        return codes

    def remove_passkey(self, user: User, passkey_id: int, by: Actor) -> None:
        """Remove a passkey; with the last one of a user without codes the recovery codes go.

        Raises
        ------
        InvalidSelection
        """
        if not self._accounts.remove_passkey(user.id, passkey_id):
            raise InvalidSelection("This passkey was removed already")
        if not user.has_codes and not self._accounts.passkeys(user.id):
            self._accounts.set_recovery_codes(user.id, [])
        self._record(AuditKind.PASSKEY_REMOVED, by, user.name)

    def new_recovery_codes(self, user: User, by: Actor) -> list[str]:
        """Replace the recovery codes of a user with a second factor; return them, they are shown once.

        Raises
        ------
        InvalidSelection
        """
        if not user.has_second_factor:
            raise InvalidSelection("Recovery codes are for users with codes of an app, or passkeys")
        codes = one_time_codes.new_recovery_codes()
        self._accounts.set_recovery_codes(user.id, [one_time_codes.recovery_digest(each) for each in codes])
        self._record(AuditKind.RECOVERY_CODES_MADE, by, user.name)
        return codes

    def renew_first_link(self) -> str:
        """Make the link of the first administrator, and end older ones; empty when there is an administrator."""
        self._accounts.remove_links(LinkKind.FIRST)
        if self._accounts.has_administrator():
            return ""
        token = new_token()
        self._accounts.add_link(OneTimeLink(digest_of(token), LinkKind.FIRST, clock.now() + FIRST_WITHIN))
        return token

    def link(self, token: str, *, of_provider: bool = False) -> tuple[OneTimeLink, User | None] | None:
        """Find a link that still works, and whose password or account of the provider it is for."""
        found = self._accounts.link(digest_of(token)) if token else None
        if found is None or (found.kind is LinkKind.IDENTITY) != of_provider:
            return None
        if found.until < clock.now() or found.until > clock.now() + PASSWORD_WITHIN:
            return None
        if found.kind is LinkKind.FIRST and self._accounts.has_administrator():
            return None
        known = self._accounts.credentials_of(found.user_id) if found.user_id is not None else None
        return found, known.user if known else None

    def use_link(self, token: str, name: str, password: str, address: str) -> UserCredentials:
        """Choose a password by a link; that of the first administrator also takes a name, and makes that user.

        Raises
        ------
        InvalidSelection
            The link has ended, or name or password is not good; then it still works.
        """
        found = self.link(token)
        if found is None:
            raise InvalidSelection("This link was used, or has ended: ask for a new one")
        link, user = found
        if user is None:
            name = good_name(name)
            passwords.require_good(password, name)
        else:
            passwords.require_good(password, user.name)
        if not self._accounts.use_link(link.digest):
            raise InvalidSelection("This link was used, or has ended: ask for a new one")
        if user is None:
            user = self.add(name, {EVERY_SITE: Role.ADMINISTER}, Actor("first link", address))
        self.set_password(user, password, Actor(user.name, address))
        known = self._accounts.credentials_of(user.id)
        if known is None:
            raise InvalidSelection("There is no user with this name: backup-scp users list  shows all")
        return known

    def _require_another_administrator(self, user: User) -> None:
        others = (other for other in self._accounts.users() if other.id != user.id)
        if user.is_administrator and not any(o.is_administrator and not o.is_disabled for o in others):
            raise InvalidSelection(f"{user.name} is the only administrator: make another one first")

    def _record(self, kind: AuditKind, by: Actor, about: str) -> None:
        self._accounts.record(AuditEvent(clock.now(), kind, by.who, about if about != by.who else "", by.address))


def roles_of(role: Role, sites: Sequence[str]) -> dict[str, Role]:
    """Return a role at each of some sites; at all of them without any."""
    return dict.fromkeys(sites or (EVERY_SITE,), role)


def require_good_roles(roles: Mapping[str, Role]) -> None:
    """Raise for roles that nobody can have.

    Raises
    ------
    InvalidSelection
    """
    if not roles:
        raise InvalidSelection("A user needs a role")
    if fault := next(filter(None, (site_fault(site) for site in roles if site != EVERY_SITE)), ""):
        raise InvalidSelection(fault[:1].upper() + fault[1:])
    if any(role is Role.ADMINISTER and site != EVERY_SITE for site, role in roles.items()):
        raise InvalidSelection("Who administers sees every site: leave out the sites, or choose another role")


def good_name(name: str) -> str:
    """Return a user's name in its usual form.

    Raises
    ------
    InvalidSelection
        It cannot be one.
    """
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not 2 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InvalidSelection(f"A user's name has 2 to {_LONGEST_NAME} letters, digits, signs and blanks")
    return name
