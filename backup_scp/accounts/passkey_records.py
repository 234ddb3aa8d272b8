"""Passkeys, by which users log in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import passkey, recovery_code
from backup_scp.accounts.connection import AccountsDatabase
from backup_scp.errors import InvalidSelection
from backup_scp.ports import Passkey

_FIELDS = tuple(column.name for column in passkey.c if column.name not in {"id", "account_id"})


class SQLPasskeyRecords:
    """Implements ``ports.PasskeyRecords``."""

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database

    def add_passkey(self, passkey_: Passkey, recovery_digests: Sequence[str] = ()) -> None:
        row = {name: getattr(passkey_, name) for name in _FIELDS} | {"account_id": passkey_.user_id}
        with self._database.writing() as connection:
            try:
                connection.execute(sa.insert(passkey).values(**row))
            except sa.exc.IntegrityError:
                raise InvalidSelection("This passkey is in use already") from None
            if recovery_digests:
                rows = [{"account_id": passkey_.user_id, "digest": digest} for digest in recovery_digests]
                connection.execute(sa.insert(recovery_code), rows)

    def passkeys(self, user_id: int) -> list[Passkey]:
        of_user = sa.select(passkey).where(passkey.c.account_id == user_id).order_by(passkey.c.id)
        with self._database.reading() as connection:
            return [_passkey_of(row) for row in connection.execute(of_user).mappings()]

    def passkey(self, credential_id: str) -> Passkey | None:
        it = sa.select(passkey).where(passkey.c.credential_id == credential_id)
        with self._database.reading() as connection:
            row = connection.execute(it).mappings().one_or_none()
        return _passkey_of(row) if row else None

    def use_passkey(self, passkey_id: int, sign_count: int, at: datetime) -> bool:
        has_grown = passkey.c.sign_count < sign_count
        if not sign_count:
            has_grown = passkey.c.sign_count == 0
        use = sa.update(passkey).where(passkey.c.id == passkey_id, has_grown)
        with self._database.writing() as connection:
            return connection.execute(use.values(sign_count=sign_count, used_at=at)).rowcount == 1

    def remove_passkey(self, user_id: int, passkey_id: int) -> bool:
        it = passkey.c.id == passkey_id, passkey.c.account_id == user_id
        with self._database.writing() as connection:
            return connection.execute(sa.delete(passkey).where(*it)).rowcount == 1

    def remove_passkeys(self, user_id: int) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.delete(passkey).where(passkey.c.account_id == user_id))


def _passkey_of(row: sa.RowMapping) -> Passkey:
    return Passkey(row["id"], row["account_id"], **{name: row[name] for name in _FIELDS})
