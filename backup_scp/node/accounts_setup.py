"""Open the database of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup_scp.node.settings import Settings

if TYPE_CHECKING:
    from backup_scp.accounts.sql_accounts import SQLAccounts

FILE = "accounts.sqlite"
_CONNECTIONS = 8


def open_accounts(settings: Settings) -> SQLAccounts:
    """Open the database of users: a file beside an embedded index, tables beside those of a PostgreSQL index.

    Nothing is read or made before it is needed.

    Raises
    ------
    InvalidSettings
        The URL of the index cannot be used.
    """
    from backup_scp.accounts.sql_accounts import SQLAccounts

    if settings.index_is_embedded:
        return SQLAccounts.in_file(settings.home / FILE)
    from backup_scp.index.connection.database import Database

    return SQLAccounts.on_server(Database(settings.index_url, _CONNECTIONS).engine)


def upgrade_accounts(settings: Settings) -> bool:
    """Bring the tables of users up to date; True when there was something to do.

    Raises
    ------
    InvalidSettings, AccountsUnavailable
    """
    from contextlib import closing

    with closing(open_accounts(settings)) as accounts:
        return accounts.upgrade()
