"""Make the check of users who call over DIMSE from the settings (docs/adr/0074)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from backup_scp.node.accounts_setup import open_accounts
from backup_scp.node.openid_setup import token_logins
from backup_scp.node.settings import Settings

if TYPE_CHECKING:
    from backup_scp.dimse.association.identification import Identification


def identification(settings: Settings, stack: ExitStack) -> Identification:
    """Return the check of users; the database of users is opened only when a ``[[remote]]`` needs it.

    Raises
    ------
    InvalidSettings
        The URL of the index, or the secret for the provider of logins, cannot be used.
    """
    from backup_scp.dimse.association.identification import Identification

    asked = {remote.user_identity for remote in settings.remote}
    if not asked & {"password", "token"}:
        return Identification()
    from backup_scp.services.association_logins import AssociationLogins

    accounts = open_accounts(settings)
    stack.callback(accounts.close)
    token_user = token_logins(settings, accounts).user if "token" in asked else None
    return Identification(AssociationLogins(accounts), token_user)
