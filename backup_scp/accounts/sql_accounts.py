"""What the node knows of users: in an SQLite file of its own, or in the database of a PostgreSQL index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from backup_scp.accounts.audit_records import SQLAuditRecords
from backup_scp.accounts.connection import AccountsDatabase, sqlite_engine
from backup_scp.accounts.failure_records import SQLFailureRecords
from backup_scp.accounts.passkey_records import SQLPasskeyRecords
from backup_scp.accounts.patient_link_records import SQLPatientLinkRecords
from backup_scp.accounts.session_records import SQLSessionRecords
from backup_scp.accounts.share_records import SQLShareRecords
from backup_scp.accounts.user_records import SQLUserRecords

if TYPE_CHECKING:
    import sqlalchemy as sa


class SQLAccounts(
    SQLUserRecords,
    SQLSessionRecords,
    SQLAuditRecords,
    SQLFailureRecords,
    SQLPasskeyRecords,
    SQLPatientLinkRecords,
    SQLShareRecords,
):
    """Implements ``ports.Accounts``.

    Parameters
    ----------
    database
        The connections.
    """

    def __init__(self, database: AccountsDatabase) -> None:
        super().__init__(database)
        self._database = database

    @classmethod
    def in_file(cls, path: Path) -> Self:
        """Use an SQLite file; it is made when it is first needed."""
        return cls(AccountsDatabase(sqlite_engine(path), upgrades=True))

    @classmethod
    def on_server(cls, engine: sa.Engine) -> Self:
        """Use tables in a PostgreSQL database, which ``upgrade`` makes."""
        return cls(AccountsDatabase(engine, upgrades=False))

    def upgrade(self) -> bool:
        """Bring the tables up to date; True when there was something to do.

        Raises
        ------
        AccountsUnavailable
        """
        return self._database.upgrade()

    def close(self) -> None:
        self._database.close()
