"""The audit: who logged in, who tried, who changed users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import audit
from backup_scp.accounts.connection import AccountsDatabase
from backup_scp.ports import AuditEvent, AuditKind

MOST = 200_000
"""Limit of lines: whoever guesses passwords must not fill the disk."""

_LONGEST = 256  # characters of a value, which a stranger may have typed


class SQLAuditRecords:
    """Implements ``ports.AuditRecords``.

    Attributes
    ----------
    on_event
        Called with each line: the node's audit trail has it too.
    """

    on_event: Callable[[AuditEvent], None] | None = None

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database

    def record(self, event: AuditEvent) -> None:
        row = {
            "at": event.at,
            "kind": event.kind,
            "who": _plain(event.who),
            "about": _plain(event.about),
            "address": _plain(event.address),
        }
        is_guess = event.kind == AuditKind.LOGIN_FAILED
        with self._database.noting() if is_guess else self._database.writing() as connection:
            (number,) = connection.execute(sa.insert(audit).values(**row)).inserted_primary_key or (0,)
            connection.execute(sa.delete(audit).where(audit.c.id <= number - MOST))
        if self.on_event is not None:
            self.on_event(event)

    def events(self, most: int, kinds: Sequence[str] = (), who: str = "") -> list[AuditEvent]:
        wanted = sa.select(audit).order_by(audit.c.id.desc()).limit(most)
        if kinds:
            wanted = wanted.where(audit.c.kind.in_(kinds))
        if who:
            wanted = wanted.where((audit.c.who == who) | (audit.c.about == who))
        with self._database.reading() as connection:
            rows = connection.execute(wanted).mappings().all()
        return [AuditEvent(row["at"], row["kind"], row["who"], row["about"], row["address"]) for row in rows]

    def has_logged_in(self, name: str, address: str, since: datetime) -> bool:
        logins = audit.c.kind == AuditKind.LOGIN, audit.c.who == name, audit.c.address == address, audit.c.at > since
        with self._database.reading() as connection:
            return connection.scalar(sa.select(audit.c.id).where(*logins).limit(1)) is not None


def _plain(text: str) -> str:
    """Shorten a value, without what a database or terminal does not take."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:_LONGEST]
    )
