"""Who may log in: users with their roles at each site, sessions, links for one use, and the audit of all that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from backup_scp.ports.failures import FailureRecords
from backup_scp.ports.identity import FederatedIdentity
from backup_scp.ports.passkeys import PasskeyRecords
from backup_scp.ports.patient_links import PatientLinkRecords
from backup_scp.ports.share_links import ShareRecords
from backup_scp.ports.sites import EVERY_SITE


class Role(StrEnum):
    """What a user may do at a site; each may do what those before it may."""

    SEE = "see"
    RESTORE = "restore"
    SHARE = "share"
    ADMINISTER = "administer"


@dataclass(frozen=True, slots=True)
class User:
    """A person who may log in.

    Attributes
    ----------
    id
        Its number; another user may get it after a removal.
    name
        The name at login; upper and lower case are the same.
    roles
        The role at each site, by the site's name or ``EVERY_SITE``.
    added_at
        When it was added.
    is_disabled
        Whether it may not log in for now.
    has_password
        Whether it has chosen a password.
    has_codes
        Whether each login with the password needs a code of an app as well (TOTP).
    has_passkeys
        Whether it has passkeys; then the password alone opens nothing either.
    is_linked
        Whether it logs in at a provider elsewhere (OpenID Connect).
    """

    id: int
    name: str
    roles: Mapping[str, Role]
    added_at: datetime
    is_disabled: bool = False
    has_password: bool = False
    has_codes: bool = False
    has_passkeys: bool = False
    is_linked: bool = False

    @property
    def may_log_in(self) -> bool:
        """Whether it has a way to log in, and is not disabled."""
        return (self.has_password or self.is_linked) and not self.is_disabled

    @property
    def has_second_factor(self) -> bool:
        """Whether the password alone opens nothing."""
        return self.has_codes or self.has_passkeys

    @property
    def is_administrator(self) -> bool:
        """Whether it may change users."""
        return self.roles.get(EVERY_SITE) is Role.ADMINISTER


@dataclass(frozen=True, slots=True)
class UserCredentials:
    """What a login is compared with.

    Attributes
    ----------
    user
        Whose.
    password_hash
        Of Argon2id, with its parameters; empty before a password was chosen.
    code_secret
        The secret of the codes (RFC 6238), in base32; empty without codes.
    """

    user: User
    password_hash: str = ""
    code_secret: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A login.

    Attributes
    ----------
    digest
        SHA-256 of its token, which only the browser has.
    user_id
        Whose.
    began_at, seen_at
        When it began, and when the last request came, give or take a minute.
    address, agent
        The caller's address and browser, as they were at the beginning.
    is_complete
        False until the code was given, where one is needed.
    """

    digest: str
    user_id: int
    began_at: datetime
    seen_at: datetime
    address: str = ""
    agent: str = ""
    is_complete: bool = True


class LinkKind(StrEnum):
    """What a link is for."""

    FIRST = "first administrator"
    PASSWORD = "choose a password"  # noqa: S105 - a description
    IDENTITY = "link an account of the provider"


@dataclass(frozen=True, slots=True)
class OneTimeLink:
    """A link that works once.

    Attributes
    ----------
    digest
        SHA-256 of its token.
    kind
        What it is for.
    until
        When it ends.
    user_id
        Whose password is chosen, or who is linked; None for ``FIRST``.
    """

    digest: str
    kind: LinkKind
    until: datetime
    user_id: int | None = None


class AuditKind(StrEnum):
    """What happened."""

    LOGIN = "login"
    LOGIN_FAILED = "login failed"
    LOGOUT = "logout"
    LOGOUT_EVERYWHERE = "logout everywhere"
    PASSWORD_CHOSEN = "password chosen"  # noqa: S105 - a description
    CODES_ON = "codes turned on"
    CODES_OFF = "codes turned off"
    RECOVERY_CODE_USED = "recovery code used"
    RECOVERY_CODES_MADE = "recovery codes made"
    PASSKEY_ADDED = "passkey added"
    PASSKEY_REMOVED = "passkey removed"
    PASSKEY_COPIED = "passkey refused, it may have been copied"
    LINKED = "linked to an account of the provider"
    UNLINKED = "no longer linked to an account of the provider"
    ENDED_BY_PROVIDER = "sessions ended by the provider"
    USER_ADDED = "user added"
    USER_CHANGED = "user changed"
    USER_RESET = "user reset"
    USER_DISABLED = "user disabled"
    USER_ENABLED = "user enabled"
    USER_REMOVED = "user removed"
    PATIENTS_LINKED = "patients linked"
    PATIENTS_UNLINKED = "patients unlinked"
    SHARE_MADE = "share link made"
    SHARE_REVOKED = "share link revoked"
    SHARE_UNLOCKED = "share link unlocked"
    SHARE_LOCKED = "share link locked"
    SHARE_FAILED = "share link: wrong PIN"
    SHARE_OPENED = "share link opened"
    SHARE_LOOKED = "share link: pictures shown"
    SHARE_SAVED = "share link: study saved"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the audit; it names no patient.

    Attributes
    ----------
    at
        When.
    kind
        What happened; a later version may know further kinds.
    who
        Who did it: a user's name, or how the caller was known.
    about
        Whom or what it concerns; empty when that is ``who``.
    address
        Of the caller; empty for the command line.
    """

    at: datetime
    kind: str
    who: str
    about: str = ""
    address: str = ""


class UserRecords(Protocol):
    """Users, and what they log in with."""

    def add_user(
        self, name: str, roles: Mapping[str, Role], at: datetime, identity: FederatedIdentity | None = None
    ) -> User:
        """Add a user without a password, perhaps one who logs in at a provider.

        Raises
        ------
        InvalidSelection
            There is a user with this name.
        """

    def users(self) -> list[User]:
        """Return all users, by name."""

    def has_users(self) -> bool:
        """Tell whether there is any user."""

    def has_administrator(self) -> bool:
        """Tell whether there is an administrator who can log in."""

    def credentials(self, name: str) -> UserCredentials | None:
        """Find a user by the name as typed at login."""

    def credentials_of(self, user_id: int) -> UserCredentials | None:
        """Find a user by its number."""

    def credentials_at(self, identity: FederatedIdentity) -> UserCredentials | None:
        """Find the user who is linked to an account of a provider."""

    def set_identity(self, user_id: int, identity: FederatedIdentity | None) -> None:
        """Link a user to an account of a provider; or to none, and end the user's sessions and links.

        Raises
        ------
        InvalidSelection
            Another user is linked to it.
        """

    def set_password(self, user_id: int, password_hash: str, *, ends_sessions: bool = True) -> None:
        """Set the hash of a password; end the user's sessions and links, unless only the hash is a newer one."""

    def set_roles(self, user_id: int, roles: Mapping[str, Role]) -> None:
        """Set the roles."""

    def set_disabled(self, user_id: int, *, is_disabled: bool) -> None:
        """Disable a user, and end its sessions; or enable it."""

    def remove_user(self, user_id: int) -> None:
        """Remove a user, with its sessions and links; the audit keeps its name."""

    def set_codes(self, user_id: int, secret: str, recovery_digests: Sequence[str] | None, step: int = 0) -> None:
        """Turn codes on with a secret, or off with an empty one; ``step`` is that of the code used meanwhile.

        The recovery codes are replaced, or kept with None.
        """

    def set_recovery_codes(self, user_id: int, recovery_digests: Sequence[str]) -> None:
        """Replace the recovery codes."""

    def use_step(self, user_id: int, step: int) -> bool:
        """Note that the code of a step was used; False when this or a later one was used before."""

    def use_recovery_code(self, user_id: int, digest: str) -> bool:
        """Remove a recovery code; False when there is none such."""

    def recovery_codes_left(self, user_id: int) -> int:
        """Count the recovery codes that were not used."""


class SessionRecords(Protocol):
    """Sessions, and links for one use."""

    def begin_session(self, session: Session, *, instead_of: str = "") -> None:
        """Store a session; end another one in the same transaction."""

    def session(self, digest: str) -> tuple[Session, User] | None:
        """Find a session and its user by the digest of its token; none of a disabled user."""

    def sessions(self, user_id: int) -> list[Session]:
        """Return a user's sessions, the newest first."""

    def touch_session(self, digest: str, at: datetime) -> None:
        """Note that a request came."""

    def end_session(self, digest: str) -> None:
        """End a session."""

    def end_sessions(self, user_id: int, *, but: str = "") -> None:
        """End a user's sessions, but the one with this digest."""

    def forget_sessions(self, began_before: datetime, seen_before: datetime) -> None:
        """Remove sessions that are too old."""

    def add_link(self, link: OneTimeLink) -> None:
        """Store a link; it replaces others of the same kind for the same user."""

    def link(self, digest: str) -> OneTimeLink | None:
        """Find a link by the digest of its token."""

    def use_link(self, digest: str) -> bool:
        """Remove a link; False when somebody else was faster."""

    def remove_links(self, kind: LinkKind) -> None:
        """Remove all links of a kind."""


class AuditRecords(Protocol):
    """The audit."""

    def record(self, event: AuditEvent) -> None:
        """Add a line; the oldest lines go when there are very many.  A failed login waits for no disk."""

    def events(self, most: int, kinds: Sequence[str] = (), who: str = "") -> list[AuditEvent]:
        """Return the last lines, the newest first: of some kinds and of one person, or all."""

    def has_logged_in(self, name: str, address: str, since: datetime) -> bool:
        """Tell whether this user has logged in from this address since then."""


class Accounts(
    UserRecords,
    SessionRecords,
    AuditRecords,
    FailureRecords,
    PasskeyRecords,
    PatientLinkRecords,
    ShareRecords,
    Protocol,
):
    """What the node knows of users.

    Every method may raise ``AccountsUnavailable``.  What a method changes is durable when it returns, but for failures.
    """

    def close(self) -> None:
        """Close the connections."""
