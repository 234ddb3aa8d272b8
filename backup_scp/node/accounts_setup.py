"""Open the database of users, and make the link of the first administrator."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

from backup_scp.errors import BackupSCPError
from backup_scp.machine.addresses import EVERY_ADDRESS, console_addresses, is_loopback
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
    with closing(open_accounts(settings)) as accounts:
        return accounts.upgrade()


def first_link(settings: Settings, port: int) -> str:
    """Make the link of the first administrator, when some callers need a login; empty when there is one."""
    web = settings.web
    is_trusted_here = is_loopback(web.host) and not web.public_url and settings.node.trust_this_machine
    if not web.enabled or is_trusted_here:
        return ""
    from backup_scp.services.user_changes import UserChanges

    try:
        with closing(open_accounts(settings)) as accounts:
            token = UserChanges(accounts).renew_first_link()
    except BackupSCPError:  # the page says so
        return ""
    return link_address(settings, token, port) if token else ""


def has_users(settings: Settings) -> bool:
    """Tell whether there are users; it makes no database."""
    if settings.index_is_embedded and not (settings.home / FILE).is_file():
        return False
    try:
        with closing(open_accounts(settings)) as accounts:
            return accounts.has_users()
    except BackupSCPError:
        return False


def link_address(settings: Settings, token: str, port: int = 0, path: str = "/link") -> str:
    """Return the address of a link that works once; ``port`` is the one of a node that runs."""
    return f"{page_address(settings, port)}{path}?token={token}"


def share_address(settings: Settings, port: int) -> str:
    """Return what stands before the path of a share link; empty when nobody elsewhere can open one safely."""
    web = settings.web
    is_reached = web.public_url or (not is_loopback(web.host) and web.certificate)
    return page_address(settings, port) if is_reached and not web.ca else ""


def page_address(settings: Settings, port: int = 0) -> str:
    """Return the address of the page, without a slash at its end; ``port`` is the one of a node that runs."""
    web = settings.web
    if web.public_url:
        return web.public_url.rstrip("/")
    host = next(iter(console_addresses(web.host)), "127.0.0.1") if web.host in EVERY_ADDRESS else web.host
    scheme = "https" if web.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port or web.port}"


def session_times(settings: Settings) -> tuple[timedelta, timedelta]:
    """Return how long a session lasts: without a request, and in all."""
    return timedelta(minutes=settings.web.session_minutes), timedelta(hours=settings.web.session_hours)
