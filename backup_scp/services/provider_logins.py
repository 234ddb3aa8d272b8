"""Log users in who come from a provider (OpenID Connect): who is let in, with which roles, and as which user."""

from __future__ import annotations

from collections.abc import Sequence

from backup_scp.errors import InvalidSelection
from backup_scp.ports import (
    AuditKind,
    FederatedIdentity,
    IdentityProvider,
    Person,
    Role,
    UserCredentials,
)
from backup_scp.services.logins import LoggedIn, LoginRefused, Logins, Origin
from backup_scp.services.pending_logins import PendingLogins
from backup_scp.services.provider_roles import RoleRule, name_of, roles_of
from backup_scp.services.user_changes import Actor, UserChanges


class ProviderLogins:
    """Logs users in who come from the provider.

    Parameters
    ----------
    logins
        Begins sessions.
    provider
        Where they come from.
    rules
        Who gets which role.
    asks_second_factor
        Whether a user who has a second factor here is asked for it, when the provider does not say that it asked for
        one.

    Attributes
    ----------
    provider
        The same.
    pending
        Logins that have begun.
    """

    def __init__(
        self, logins: Logins, provider: IdentityProvider, rules: Sequence[RoleRule], *, asks_second_factor: bool = True
    ) -> None:
        self.provider = provider
        self.pending = PendingLogins()
        self._logins = logins
        self._accounts = logins.accounts
        self._rules = tuple(rules)
        self._asks_second_factor = asks_second_factor

    def log_in(self, person: Person, origin: Origin, *, instead_of: str = "") -> LoggedIn:
        """Find or add the user, give it the roles of today, and begin a session.

        Raises
        ------
        LoginRefused, AccountsUnavailable
        """
        known, roles = self._accounts.credentials_at(person.identity), roles_of(person, self._rules)
        if known is None:
            known = self._added(person, roles, origin)
        elif known.user.is_disabled:
            raise self._refused(known.user.name, origin, "This user is disabled: ask an administrator")
        elif roles != known.user.roles:
            self._accounts.set_roles(known.user.id, roles)
            self._logins.record(AuditKind.USER_CHANGED, self.provider.label, origin, known.user.name)
        if not roles:
            self._accounts.end_sessions(known.user.id)
            raise self._no_role(known.user.name, origin)
        needs_code = self._asks_second_factor and not person.used_second_factor
        if needs_code and not known.user.has_second_factor:
            self._require_second_factor(known, origin)
            needs_code = False
        return self._logins.begin_session(self._again(known), origin, instead_of=instead_of, is_complete=not needs_code)

    def _require_second_factor(self, known: UserCredentials, origin: Origin) -> None:
        """Refuse who has used none, where everybody needs one, unless a password lets set one up here."""
        label = self.provider.label
        if self._logins.needs_second_factor and not known.user.has_password:
            sentence = f"Everybody needs a second factor here, and {label} does not say that it asked for one"
            raise self._refused(known.user.name, origin, f"{sentence}: docs/openid-connect.md")

    def link(self, person: Person, user_id: int, origin: Origin) -> UserCredentials:
        """Link a user of this node to a person of the provider, and give it the roles of that person.

        Raises
        ------
        LoginRefused, InvalidSelection, AccountsUnavailable
        """
        known, other = self._accounts.credentials_of(user_id), self._accounts.credentials_at(person.identity)
        if known is None or known.user.is_disabled:
            raise LoginRefused("This user was removed or disabled: ask an administrator")
        user, label = known.user, self.provider.label
        if other is not None and other.user.id != user_id:
            raise LoginRefused(f"This account of {label} is linked to another user: an administrator ends that first")
        if user.is_linked and other is None:
            raise LoginRefused(f"{user.name} is linked to another account of {label}: an administrator ends that first")
        if not (roles := roles_of(person, self._rules)):
            raise self._no_role(user.name, origin)
        by = Actor(user.name, origin.address)
        if roles != user.roles:
            UserChanges(self._accounts).set_roles(user, roles, by)
        self._accounts.set_identity(user_id, person.identity)
        self._logins.record(AuditKind.LINKED, user.name, origin)
        return self._again(known)

    def sessions_ended(self, identity: FederatedIdentity, origin: Origin) -> None:
        """End all sessions of a user who has logged out at the provider."""
        known = self._accounts.credentials_at(identity)
        if known is not None:
            self._accounts.end_sessions(known.user.id)
            self._logins.record(AuditKind.ENDED_BY_PROVIDER, known.user.name, origin)

    def _added(self, person: Person, roles: dict[str, Role], origin: Origin) -> UserCredentials:
        name = name_of(person)
        if not roles:
            raise self._no_role(name, origin)
        by = Actor(self.provider.label, origin.address)
        try:
            user = UserChanges(self._accounts).add(name, roles, by, person.identity)
        except InvalidSelection:
            if (known := self._accounts.credentials_at(person.identity)) is not None:
                return known  # the same person at the same moment
            raise self._refused(
                name,
                origin,
                f"There is a user {name} here who is not linked to this account of {self.provider.label}. If that is "
                "you, log in with your password and link it below your name; or ask an administrator for a link",
            ) from None
        return UserCredentials(user)

    def _again(self, known: UserCredentials) -> UserCredentials:
        """Read a user again after a change.

        Raises
        ------
        LoginRefused
            It was removed meanwhile.
        """
        found = self._accounts.credentials_of(known.user.id)
        if found is None or found.user.is_disabled:
            raise LoginRefused("This user was removed or disabled: ask an administrator")
        return found

    def _no_role(self, name: str, origin: Origin) -> LoginRefused:
        label = self.provider.label
        return self._refused(
            name, origin, f"Your account of {label} is in no group that may log in here: ask who looks after {label}"
        )

    def _refused(self, name: str, origin: Origin, sentence: str) -> LoginRefused:
        self._logins.record(AuditKind.LOGIN_FAILED, name, origin, self.provider.label)
        return LoginRefused(sentence)
