"""Make the login at a provider from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup_scp.errors import InvalidSelection
from backup_scp.node.accounts_setup import page_address
from backup_scp.node.settings import Settings, first_line

if TYPE_CHECKING:
    from backup_scp.node.settings.openid_section import OpenIDSettings
    from backup_scp.openid.client_registration import ClientRegistration
    from backup_scp.ports import Accounts
    from backup_scp.services.logins import Logins
    from backup_scp.services.provider_logins import ProviderLogins
    from backup_scp.services.provider_roles import RoleRule
    from backup_scp.services.token_logins import TokenLogins

CALLBACK = "/login/openid/callback"
"""Where the browser comes back to; the web room has it as well, and a test compares them."""

LINK = "/login/openid/link"
"""Where a user is linked to an account of the provider."""


def require_provider(settings: Settings) -> None:
    """Raise when the settings name no provider.

    Raises
    ------
    InvalidSelection
    """
    if not settings.web.openid_connect.is_on:
        raise InvalidSelection("The settings name no provider: set it up in [web.openid_connect] first")


def provider_logins(settings: Settings, logins: Logins) -> ProviderLogins | None:
    """Return what logs users in who come from the provider; None without one.

    Raises
    ------
    InvalidSettings
        The file with the secret cannot be read.
    """
    said = settings.web.openid_connect
    if not said.is_on:
        return None
    from backup_scp.openid.openid_provider import OpenIDProvider
    from backup_scp.services.provider_logins import ProviderLogins

    provider = OpenIDProvider(registration(settings))
    return ProviderLogins(logins, provider, _rules(said), asks_second_factor=said.ask_second_factor)


def token_logins(settings: Settings, accounts: Accounts) -> TokenLogins:
    """Return what tells whose token a device brings along; it calls the provider when the first one does.

    Raises
    ------
    InvalidSettings
        The file with the secret cannot be read.
    """
    from backup_scp.openid.openid_provider import OpenIDProvider
    from backup_scp.services.token_logins import TokenLogins

    return TokenLogins(accounts, OpenIDProvider(registration(settings)), _rules(settings.web.openid_connect))


def _rules(said: OpenIDSettings) -> list[RoleRule]:
    from backup_scp.ports import Role
    from backup_scp.services.provider_roles import RoleRule

    return [RoleRule(Role(each.role), each.sites, each.group, each.email_domain) for each in said.roles]


def registration(settings: Settings) -> ClientRegistration:
    """Return what the settings say of the provider.

    Raises
    ------
    InvalidSettings
        The file with the secret cannot be read.
    """
    from backup_scp.openid.client_registration import ClientRegistration

    said = settings.web.openid_connect
    file, what = said.client_secret_file, "[web.openid_connect] client_secret_file"
    return ClientRegistration(
        said.issuer,
        said.client_id,
        first_line(settings, file, what) if file else "",
        said.label.strip(),
        said.scopes,
        said.groups_claim,
        said.second_factor_acr,
        settings.home / said.ca if said.ca else None,
    )


def redirect_address(settings: Settings, port: int = 0) -> str:
    """Return the redirect address to enter at the provider; ``port`` is the one of a node that runs."""
    return f"{page_address(settings, port)}{CALLBACK}"
