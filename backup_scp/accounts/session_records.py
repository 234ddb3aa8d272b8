"""Sessions, and links for one use."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import account, one_time_link, session
from backup_scp.accounts.connection import AccountsDatabase
from backup_scp.accounts.user_records import USER, user_of
from backup_scp.ports import LinkKind, OneTimeLink, Session, User

_OF_SESSION = tuple(column for column in session.c if column is not session.c.account_id)
_FOUND = (
    sa.select(*USER, *_OF_SESSION)
    .join_from(session, account)
    .where(session.c.digest == sa.bindparam("wanted"), account.c.is_disabled == 0)
)


class SQLSessionRecords:
    """Implements ``ports.SessionRecords``."""

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database

    def begin_session(self, session_: Session, *, instead_of: str = "") -> None:
        row = {
            "digest": session_.digest,
            "account_id": session_.user_id,
            "began_at": session_.began_at,
            "seen_at": session_.seen_at,
            "address": session_.address,
            "agent": session_.agent,
            "is_complete": int(session_.is_complete),
        }
        with self._database.writing() as connection:
            if instead_of:
                connection.execute(sa.delete(session).where(session.c.digest == instead_of))
            connection.execute(sa.insert(session).values(**row))

    def session(self, digest: str) -> tuple[Session, User] | None:
        with self._database.reading() as connection:
            row = connection.execute(_FOUND, {"wanted": digest}).mappings().one_or_none()
        return (_session_of(row, row["id"]), user_of(row)) if row else None

    def sessions(self, user_id: int) -> list[Session]:
        of_user = sa.select(session).where(session.c.account_id == user_id).order_by(session.c.began_at.desc())
        with self._database.reading() as connection:
            rows = connection.execute(of_user).mappings().all()
        return [_session_of(row, user_id) for row in rows]

    def touch_session(self, digest: str, at: datetime) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.update(session).where(session.c.digest == digest).values(seen_at=at))

    def end_session(self, digest: str) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.delete(session).where(session.c.digest == digest))

    def end_sessions(self, user_id: int, *, but: str = "") -> None:
        others = sa.delete(session).where(session.c.account_id == user_id, session.c.digest != but)
        with self._database.writing() as connection:
            connection.execute(others)

    def forget_sessions(self, began_before: datetime, seen_before: datetime) -> None:
        old = (session.c.began_at < began_before) | (session.c.seen_at < seen_before)
        with self._database.writing() as connection:
            connection.execute(sa.delete(session).where(old))

    def add_link(self, link: OneTimeLink) -> None:
        same = one_time_link.c.kind == link.kind, one_time_link.c.account_id == link.user_id
        row = {"digest": link.digest, "kind": link.kind, "account_id": link.user_id, "until": link.until}
        with self._database.writing() as connection:
            connection.execute(sa.delete(one_time_link).where(*same))
            connection.execute(sa.insert(one_time_link).values(**row))

    def link(self, digest: str) -> OneTimeLink | None:
        of_it = sa.select(one_time_link).where(one_time_link.c.digest == digest)
        with self._database.reading() as connection:
            row = connection.execute(of_it).mappings().one_or_none()
        return OneTimeLink(row["digest"], LinkKind(row["kind"]), row["until"], row["account_id"]) if row else None

    def use_link(self, digest: str) -> bool:
        with self._database.writing() as connection:
            return connection.execute(sa.delete(one_time_link).where(one_time_link.c.digest == digest)).rowcount == 1

    def remove_links(self, kind: LinkKind) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.delete(one_time_link).where(one_time_link.c.kind == kind))


def _session_of(row: sa.RowMapping, user_id: int) -> Session:
    return Session(
        row["digest"],
        user_id,
        row["began_at"],
        row["seen_at"],
        row["address"],
        row["agent"],
        is_complete=bool(row["is_complete"]),
    )
