"""Share links, and the browsers that have opened them."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import share_link, share_session
from backup_scp.accounts.connection import AccountsDatabase
from backup_scp.ports import ShareLink, ShareSession, SiteScope

BY_DIGEST = sa.select(share_link).where(share_link.c.digest == sa.bindparam("wanted"))
BY_SESSION = (
    sa.select(share_link, share_session.c.until.label("session_until"))
    .join_from(share_session, share_link)
    .where(share_session.c.digest == sa.bindparam("wanted"), share_link.c.digest == sa.bindparam("of_link"))
)


class SQLShareRecords:
    """Implements ``ports.ShareRecords``."""

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database

    def add_share(self, link: ShareLink) -> ShareLink:
        row = asdict(link) | {"may_save": int(link.may_save)}
        del row["number"]
        with self._database.writing() as connection:
            (number,) = connection.execute(sa.insert(share_link).values(**row)).inserted_primary_key or (0,)
        return replace(link, number=number)

    def share(self, digest: str) -> ShareLink | None:
        with self._database.reading() as connection:
            row = connection.execute(BY_DIGEST, {"wanted": digest}).mappings().one_or_none()
        return _link_of(row) if row else None

    def share_numbered(self, number: int) -> ShareLink | None:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(share_link).where(share_link.c.id == number)).mappings().one_or_none()
        return _link_of(row) if row else None

    def shares(self, scope: SiteScope, most: int, before: int = 0, study_instance_uid: str = "") -> list[ShareLink]:
        wanted = sa.select(share_link).order_by(share_link.c.id.desc()).limit(most)
        if scope.sites is not None:
            wanted = wanted.where(share_link.c.site.in_(sorted(scope.sites)))
        if before:
            wanted = wanted.where(share_link.c.id < before)
        if study_instance_uid:
            wanted = wanted.where(share_link.c.study_instance_uid == study_instance_uid)
        with self._database.reading() as connection:
            return [_link_of(row) for row in connection.execute(wanted).mappings()]

    def begin_try(self, number: int, most: int) -> bool:
        fewer = share_link.c.id == number, share_link.c.failures < most
        counted = sa.update(share_link).where(*fewer).values(failures=share_link.c.failures + 1)
        with self._database.writing() as connection:
            return connection.execute(counted).rowcount == 1

    def open_share(self, number: int, session: ShareSession, at: datetime) -> None:
        values = {"opened": share_link.c.opened + 1, "opened_at": at, "failures": 0}
        row = {"digest": session.digest, "share_link_id": number, "until": session.until}
        with self._database.writing() as connection:
            connection.execute(sa.update(share_link).where(share_link.c.id == number).values(**values))
            connection.execute(sa.delete(share_session).where(share_session.c.until < at))
            connection.execute(sa.insert(share_session).values(**row))

    def share_of_session(self, digest: str, link_digest: str) -> tuple[ShareLink, ShareSession] | None:
        with self._database.reading() as connection:
            named = {"wanted": digest, "of_link": link_digest}
            row = connection.execute(BY_SESSION, named).mappings().one_or_none()
        return (_link_of(row), ShareSession(digest, row["session_until"])) if row else None

    def end_share_session(self, digest: str) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.delete(share_session).where(share_session.c.digest == digest))

    def revoke_share(self, number: int, at: datetime) -> None:
        living = share_link.c.id == number, share_link.c.revoked_at.is_(None)
        with self._database.writing() as connection:
            connection.execute(sa.update(share_link).where(*living).values(revoked_at=at))
            connection.execute(sa.delete(share_session).where(share_session.c.share_link_id == number))

    def unlock_share(self, number: int) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.update(share_link).where(share_link.c.id == number).values(failures=0))


def _link_of(row: sa.RowMapping) -> ShareLink:
    return ShareLink(
        number=row["id"],
        digest=row["digest"],
        pin_hash=row["pin_hash"],
        study_instance_uid=row["study_instance_uid"],
        site=row["site"],
        may_save=bool(row["may_save"]),
        made_by=row["made_by"],
        made_for=row["made_for"],
        made_at=row["made_at"],
        until=row["until"],
        opened=row["opened"],
        opened_at=row["opened_at"],
        failures=row["failures"],
        revoked_at=row["revoked_at"],
    )
