"""Tell whose JSON Web Token a calling device brings along (PS3.7 D.3.3.7, type 5; docs/adr/0074)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backup_scp.ports import SEES_NOTHING, Accounts, IdentityProvider, SiteScope
from backup_scp.services.login_attempts import LoginRefused
from backup_scp.services.permissions import Right, scope_with
from backup_scp.services.provider_roles import RoleRule, name_of, roles_of


@dataclass(frozen=True, slots=True)
class TokenUser:
    """Whom a token is for.

    Attributes
    ----------
    name
        The user's name.
    scope
        The clinics whose images it may see.
    """

    name: str
    scope: SiteScope


class TokenLogins:
    """Tells whose token a device brings along, by the keys of the provider at which users log in.

    It makes no user here, and changes none: a device may open an Association for each image.

    Parameters
    ----------
    accounts
        The users; one that is disabled here is refused.
    provider
        Who signs tokens.
    rules
        Who gets which role.
    """

    def __init__(self, accounts: Accounts, provider: IdentityProvider, rules: Sequence[RoleRule]) -> None:
        self._accounts = accounts
        self._provider = provider
        self._rules = tuple(rules)

    def user(self, token: str) -> TokenUser:
        """Return the user.

        Raises
        ------
        ProviderRefused, ProviderUnavailable, LoginRefused, AccountsUnavailable
        """
        person = self._provider.bearer(token)
        known = self._accounts.credentials_at(person.identity)
        if known is not None and known.user.is_disabled:
            raise LoginRefused("This user is disabled here")
        scope = scope_with(roles_of(person, self._rules), Right.FIND)
        if scope == SEES_NOTHING:
            raise LoginRefused("It is in no group that roles of [web.openid_connect] names")
        if known is not None:
            return TokenUser(known.user.name, scope)
        name = name_of(person)
        if self._accounts.credentials(name) is not None:  # the provider's names are not ours
            raise LoginRefused("There is another user of this name here, who is not linked to this account")
        return TokenUser(name, scope)
