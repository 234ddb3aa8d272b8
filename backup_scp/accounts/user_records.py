"""Users, and what they log in with."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import account, one_time_link, passkey, recovery_code, session
from backup_scp.accounts.connection import AccountsDatabase
from backup_scp.errors import InvalidSelection
from backup_scp.ports import FederatedIdentity, Role, User, UserCredentials

_HAS_PASSKEYS = sa.exists().where(passkey.c.account_id == account.c.id)
USER = (account, _HAS_PASSKEYS.label("has_passkeys"))
"""What to select for ``user_of``."""


class SQLUserRecords:
    """Implements ``ports.UserRecords``."""

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database

    def add_user(
        self, name: str, roles: Mapping[str, Role], at: datetime, identity: FederatedIdentity | None = None
    ) -> User:
        row = {
            "name": name,
            "name_key": name_key(name),
            "roles": _written(roles),
            "password_hash": "",
            "code_secret": "",
            "code_step": 0,
            "is_disabled": 0,
            "added_at": at,
            **_known_as(identity),
        }
        with self._database.writing() as connection:
            try:
                made = connection.execute(sa.insert(account).values(**row))
            except sa.exc.IntegrityError:
                raise InvalidSelection(f"There is a user {name} already: choose another name") from None
            (number,) = made.inserted_primary_key or (0,)
        return User(number, name, dict(roles), at, is_linked=identity is not None)

    def users(self) -> list[User]:
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*USER).order_by(account.c.name_key)).mappings().all()
        return [user_of(row) for row in rows]

    def has_users(self) -> bool:
        with self._database.reading() as connection:
            return connection.scalar(sa.select(account.c.id).limit(1)) is not None

    def has_administrator(self) -> bool:
        return any(user.is_administrator and user.may_log_in for user in self.users())

    def credentials(self, name: str) -> UserCredentials | None:
        return self._credentials(account.c.name_key == name_key(name))

    def credentials_of(self, user_id: int) -> UserCredentials | None:
        return self._credentials(account.c.id == user_id)

    def credentials_at(self, identity: FederatedIdentity) -> UserCredentials | None:
        return self._credentials(sa.and_(*(account.c[name] == value for name, value in _known_as(identity).items())))

    def _credentials(self, condition: sa.ColumnElement[bool]) -> UserCredentials | None:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(*USER).where(condition)).mappings().one_or_none()
        return UserCredentials(user_of(row), row["password_hash"], row["code_secret"]) if row else None

    def set_password(self, user_id: int, password_hash: str, *, ends_sessions: bool = True) -> None:
        with self._database.writing() as connection:
            _change(connection, user_id, password_hash=password_hash)
            if ends_sessions:
                _end(connection, user_id)

    def set_roles(self, user_id: int, roles: Mapping[str, Role]) -> None:
        with self._database.writing() as connection:
            _change(connection, user_id, roles=_written(roles))

    def set_identity(self, user_id: int, identity: FederatedIdentity | None) -> None:
        with self._database.writing() as connection:
            try:
                _change(connection, user_id, **_known_as(identity))
            except sa.exc.IntegrityError:
                raise InvalidSelection("This account of the provider is linked to another user") from None
            if identity is None:
                _end(connection, user_id)

    def set_disabled(self, user_id: int, *, is_disabled: bool) -> None:
        with self._database.writing() as connection:
            _change(connection, user_id, is_disabled=int(is_disabled))
            if is_disabled:
                _end(connection, user_id)

    def remove_user(self, user_id: int) -> None:
        with self._database.writing() as connection:
            _end(connection, user_id)
            for table in (recovery_code, passkey):
                connection.execute(sa.delete(table).where(table.c.account_id == user_id))
            connection.execute(sa.delete(account).where(account.c.id == user_id))

    def set_codes(self, user_id: int, secret: str, recovery_digests: Sequence[str] | None, step: int = 0) -> None:
        with self._database.writing() as connection:
            _change(connection, user_id, code_secret=secret, code_step=step)
            if recovery_digests is not None:
                _replace_recovery_codes(connection, user_id, recovery_digests)

    def set_recovery_codes(self, user_id: int, recovery_digests: Sequence[str]) -> None:
        with self._database.writing() as connection:
            _replace_recovery_codes(connection, user_id, recovery_digests)

    def use_step(self, user_id: int, step: int) -> bool:
        later = sa.update(account).where(account.c.id == user_id, account.c.code_step < step).values(code_step=step)
        with self._database.writing() as connection:
            return connection.execute(later).rowcount == 1

    def use_recovery_code(self, user_id: int, digest: str) -> bool:
        it = recovery_code.c.account_id == user_id, recovery_code.c.digest == digest
        with self._database.writing() as connection:
            return connection.execute(sa.delete(recovery_code).where(*it)).rowcount == 1

    def recovery_codes_left(self, user_id: int) -> int:
        count = sa.select(sa.func.count()).where(recovery_code.c.account_id == user_id)
        with self._database.reading() as connection:
            return connection.scalar(count) or 0


def name_key(name: str) -> str:
    """Return a name as names are compared: without upper case, and in one form of Unicode."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def user_of(row: sa.RowMapping) -> User:
    """Return the user of a row of ``account``."""
    return User(
        row["id"],
        row["name"],
        _read(row["roles"]),
        row["added_at"],
        is_disabled=bool(row["is_disabled"]),
        has_password=bool(row["password_hash"]),
        has_codes=bool(row["code_secret"]),
        has_passkeys=bool(row["has_passkeys"]),
        is_linked=bool(row["subject"]),
    )


def _known_as(identity: FederatedIdentity | None) -> dict[str, str | None]:
    return {"issuer": identity.issuer if identity else None, "subject": identity.subject if identity else None}


def _written(roles: Mapping[str, Role]) -> str:
    return json.dumps(dict(roles), sort_keys=True)


def _read(text: str) -> dict[str, Role]:
    """Read roles; one that only a later version knows gives nothing."""
    roles = {}
    for site, name in json.loads(text).items():
        with suppress(ValueError):
            roles[site] = Role(name)
    return roles


def _change(connection: sa.Connection, user_id: int, **values: object) -> None:
    connection.execute(sa.update(account).where(account.c.id == user_id).values(**values))


def _replace_recovery_codes(connection: sa.Connection, user_id: int, digests: Sequence[str]) -> None:
    connection.execute(sa.delete(recovery_code).where(recovery_code.c.account_id == user_id))
    if digests:
        connection.execute(sa.insert(recovery_code), [{"account_id": user_id, "digest": digest} for digest in digests])


def _end(connection: sa.Connection, user_id: int) -> None:
    """End a user's sessions and links."""
    for table in (session, one_time_link):
        connection.execute(sa.delete(table).where(table.c.account_id == user_id))
