"""Store Storage Commitment requests, lease each to one worker at a time, and delete them some time after the report.

A row's state is ``open`` (its instances must be verified), ``owed`` (its report must be delivered), ``done`` or
``given up``.  ``due_at`` is the time of the next step, ``leased_until`` the end of the lease.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from backup_scp.errors import DuplicateTransaction, ResourceLimitation
from backup_scp.index.connection.database import Database
from backup_scp.index.reading import select
from backup_scp.index.records.leases import FREE, Leases, is_free
from backup_scp.index.schema.stored_text import moment, stored_key, stored_long, timestamp
from backup_scp.index.schema.tables import commitment as table
from backup_scp.index.schema.tables import commitment_asked, instance, named, order_of, version
from backup_scp.machine import clock
from backup_scp.ports import (
    Commitment,
    CommitmentRequest,
    FailureReason,
    OwedReports,
    Reference,
    Requester,
    SiteScope,
    StoredVersion,
)

MOST_REQUESTS = 10_000
MOST_REFERENCES = 1_000_000
MOST_REFERENCES_OF_STRANGERS = 50_000
"""Limit of open requests of one address: a console that never takes its reports must not fill the disk."""

_FORGOTTEN_AFTER = timedelta(days=30)
_LONGEST_PAUSE = timedelta(hours=1)
_BATCH = 500
_WHAT = "Storage Commitment requests"
_OPEN, _OWED, _DONE, _GIVEN_UP = "open", "owed", "done", "given up"
_REQUESTER = named(table, "site ae_title address")
_LEASED = named(
    table,
    "id site ae_title address transaction_uid requested_at reference_list results attempts lease called_ae_title "
    "own_only",
)
_OTHER = table.alias("other")


class SQLCommitments:
    """Implements ``ports.Commitments``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leases = Leases(database, table, _WHAT, _LONGEST_PAUSE)

    def enter(self, request: CommitmentRequest) -> int:
        requested_at = timestamp(request.requested_at)
        key = _columns(request.requester) | {"transaction_uid": stored_key(request.transaction_uid)}
        row = key | {
            "requested_at": requested_at,
            "state": _OPEN,
            "called_ae_title": stored_key(request.called_ae_title),
            "reference_count": len(request.references),
            "reference_list": json.dumps([*map(_written, request.references)], separators=(",", ":")),
            "due_at": requested_at,
            "attempts": 0,
            "own_only": int(request.own_only),
            **dict.fromkeys(("results", "leased_until", "lease", "tried_at", "error"), ""),
        }
        farthest = timestamp(request.requested_at + _FORGOTTEN_AFTER + clock.TOLERANCE)
        is_old = sa.or_(table.c.due_at < requested_at, table.c.due_at > farthest)
        over = (table.c.state.in_([_DONE, _GIVEN_UP]), is_old)
        insert = self._database.dialect.insert(table).values(**row)
        insert = insert.on_conflict_do_nothing(index_elements=["site", "ae_title", "transaction_uid"])
        with self._database.writing(_WHAT) as connection:
            connection.execute(sa.delete(table).where(*over))
            self._require_room(connection, request)
            number = connection.scalar(insert.returning(table.c.id))
        if number is None:
            raise DuplicateTransaction("The Transaction UID was used before")
        return int(number)

    @staticmethod
    def _require_room(connection: sa.Connection, request: CommitmentRequest) -> None:
        at_address = table.c.address == stored_key(request.requester.address)
        sums = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c.reference_count), 0))
        requests, references = connection.execute(sums.where(at_address, table.c.state.in_([_OPEN, _OWED]))).one()
        most = MOST_REFERENCES_OF_STRANGERS if request.own_only else MOST_REFERENCES
        if requests >= MOST_REQUESTS or references + len(request.references) > most:
            raise ResourceLimitation(f"{requests} commitments are open at this address")

    def find(
        self, references: Sequence[Reference], requester: Requester, *, own_only: bool = False
    ) -> dict[Reference, list[StoredVersion]]:
        wanted = list(dict.fromkeys(stored_key(reference.sop_instance_uid) for reference in references))
        found: dict[str, list[StoredVersion]] = {}
        for start in range(0, len(wanted), _BATCH):
            for held in self._versions(wanted[start : start + _BATCH], requester, own_only=own_only):
                found.setdefault(held.sop_instance_uid, []).append(held)
        return {
            reference: [
                held for held in found.get(stored_key(reference.sop_instance_uid), ()) if _is_where(held, reference)
            ]
            for reference in references
        }

    def _versions(self, uids: list[str], requester: Requester, *, own_only: bool) -> Iterator[StoredVersion]:
        """Yield the answering version of each instance, and the requester's own latest one when that is another.

        Several senders may use the requester's AE title; the latest version of each of them counts as its own.
        """
        own = sa.and_(
            version.c.site == stored_key(requester.site),
            version.c.calling_ae_title == stored_long(requester.ae_title),
        )
        statement = (
            select.held(version.c.instance_id, version.c.answering, version.c.remote, own.label("own"))
            .where(self._database.dialect.among(instance.c.sop_instance_uid, uids), sa.or_(version.c.answering, own))
            .where(*select.within(SiteScope.read(requester.site), version))
            .order_by(version.c.instance_id, order_of(version), version.c.location)
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement).all()
        for _, versions in groupby(rows, key=lambda row: row.instance_id):
            that_count = _that_count(versions)
            # A version that a configured remote AE sent with this AE title does not belong to an unknown requester.
            if not own_only or any(row.own and not row.remote for row in that_count):
                yield from map(select.held_row, that_count)

    # -- leases --------------------------------------------------------------------------------------------------------

    def lease_request(self, now: datetime, until: datetime, not_at: Collection[str] = ()) -> Commitment | None:
        elsewhere = [table.c.address.not_in(list(map(stored_key, not_at)))] if not_at else []
        return self._lease([*self._leases.due(_OPEN, now), *elsewhere], now, until)

    def lease_report(self, now: datetime, until: datetime) -> Commitment | None:
        # A subquery of its own, computed once: there may be many rows.
        busy = sa.select(*(_OTHER.c[column.name] for column in _REQUESTER))
        busy = busy.where(_OTHER.c.state == _OWED, ~is_free(_OTHER, now))
        return self._lease([*self._leases.due(_OWED, now), sa.tuple_(*_REQUESTER).not_in(busy)], now, until)

    def lease_report_of(
        self, numbers: Sequence[int], attempts: int, now: datetime, until: datetime
    ) -> Commitment | None:
        these = self._database.dialect.among(table.c.id, numbers)
        return self._lease([these, table.c.state == _OWED, table.c.attempts >= attempts], now, until)

    def _lease(self, clauses: Iterable[sa.ColumnElement[bool]], now: datetime, until: datetime) -> Commitment | None:
        began = {"requested_at": _known(table.c.requested_at, now)}
        row = self._leases.take(clauses, _LEASED, now, until, began)
        return None if row is None else _leased(row)

    def renew(self, commitment: Commitment, until: datetime) -> bool:
        return self._leases.renew(commitment.number, commitment.lease, until)

    # -- results -------------------------------------------------------------------------------------------------------

    def postpone(self, commitment: Commitment, due_at: datetime) -> None:
        self._change(commitment, {"due_at": timestamp(due_at), **FREE})

    def conclude(self, commitment: Commitment, results: Sequence[FailureReason | None], now: datetime) -> bool:
        is_reported = bool(commitment.request.requester.ae_title)
        state, due_at = (_OWED, now) if is_reported else (_DONE, now + _FORGOTTEN_AFTER)
        values = {"state": state, "due_at": timestamp(due_at), "results": json.dumps([each or 0 for each in results])}
        return self._change(commitment, values | FREE)

    def find_request(self, transaction_uid: str, scope: SiteScope) -> Commitment | None:
        key = {"site": stored_key(str(scope)), "ae_title": "", "transaction_uid": stored_key(transaction_uid)}
        with self._database.reading() as connection:
            row = connection.execute(sa.select(*_LEASED).filter_by(**key)).one_or_none()
        return None if row is None else _leased(row)

    def report_failed(
        self, commitment: Commitment, error: str, now: datetime, again_at: datetime, give_up_before: datetime
    ) -> None:
        at, due_at, oldest = timestamp(now), timestamp(again_at), timestamp(give_up_before)
        ours = sa.update(table).where(*self._leases.is_ours(commitment.number, commitment.lease))
        tried = {"tried_at": at, "error": stored_long(error), "attempts": commitment.attempts + 1}
        theirs = sa.update(table).where(*_owed_to(commitment.request.requester))
        with self._database.writing(_WHAT) as connection:
            connection.execute(ours.values(**tried, **FREE, due_at=due_at))
            connection.execute(theirs.where(table.c.due_at < due_at).values(due_at=due_at))
            too_old = theirs.where(table.c.requested_at < oldest, is_free(table, now))
            connection.execute(too_old.values(error=stored_long(error), **_done_with(_GIVEN_UP, now)))

    def report_delivered(self, commitment: Commitment, now: datetime) -> None:
        at, requester = timestamp(now), commitment.request.requester
        values = {"tried_at": at, "error": "", **_done_with(_DONE, now)}
        others = (*_owed_to(requester), table.c.due_at > at)
        with self._database.writing(_WHAT) as connection:
            # Without checking the lease: the report was delivered, and must never be sent again.
            connection.execute(sa.update(table).where(table.c.id == commitment.number).values(**values))
            connection.execute(sa.update(table).where(*others).values(due_at=at))

    def _change(self, commitment: Commitment, values: dict[str, Any]) -> bool:
        return self._leases.change(commitment.number, commitment.lease, values)

    def owed(self) -> list[OwedReports]:
        columns = named(table, "state requested_at tried_at due_at error")
        statement = sa.select(*_REQUESTER, *columns).where(table.c.state.in_([_OPEN, _OWED, _GIVEN_UP]))
        with self._database.reading() as connection:
            rows = connection.execute(statement.order_by(*_REQUESTER, table.c.tried_at)).all()
        by_requester = groupby(rows, key=lambda row: Requester(*row[:3]))
        return sorted((_summary(who, list(theirs)) for who, theirs in by_requester), key=lambda owed: owed.since)

    # -- our requests to other AEs -------------------------------------------------------------------------------------

    def ask(self, transaction_uid: str, now: datetime) -> None:
        old = commitment_asked.c.asked_at < timestamp(now - _FORGOTTEN_AFTER)
        row = {"transaction_uid": transaction_uid, "asked_at": timestamp(now), "results": ""}
        with self._database.writing(_WHAT) as connection:
            connection.execute(sa.delete(commitment_asked).where(old))
            connection.execute(sa.insert(commitment_asked).values(**row))

    def answer(self, transaction_uid: str, results: Mapping[Reference, int]) -> bool:
        update = sa.update(commitment_asked).where(commitment_asked.c.transaction_uid == stored_key(transaction_uid))
        update = update.values(results=json.dumps([[*reference, reason] for reference, reason in results.items()]))
        with self._database.writing(_WHAT) as connection:
            return bool(connection.execute(update).rowcount)

    def answer_to(self, transaction_uid: str) -> dict[Reference, int] | None:
        asked = sa.select(commitment_asked.c.results).where(commitment_asked.c.transaction_uid == transaction_uid)
        with self._database.reading() as connection:
            results = connection.scalar(asked)
        return {Reference(*pair): reason for *pair, reason in json.loads(results)} if results else None


def _written(reference: Reference) -> tuple[str, ...]:
    return reference if reference.study_instance_uid else reference[:2]


def _is_where(held: StoredVersion, reference: Reference) -> bool:
    """Tell whether an instance is in the study and series that the reference names, if it names them."""
    where = (held.study_instance_uid, held.series_instance_uid)
    return not reference.study_instance_uid or where == reference[2:]


def _that_count(versions: Iterable[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """Choose among the versions of one instance, given oldest first."""
    rows = list(versions)
    own = {row.remote: row for row in rows if row.own}
    return [row for row in rows if row.answering or row is own.get(row.remote)]


def _columns(requester: Requester) -> dict[str, str]:
    return {name: stored_key(value) for name, value in asdict(requester).items()}


def _known(said: sa.ColumnElement[str], now: datetime) -> sa.ColumnElement[str]:
    """Return a recorded time; the present time when it was recorded by a clock that was ahead."""
    return sa.case((said > timestamp(now + clock.TOLERANCE), timestamp(now)), else_=said)


def _owed_to(requester: Requester) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.state == _OWED,
        *(table.c[name] == value for name, value in _columns(requester).items()),
    ]


def _done_with(state: str, now: datetime) -> dict[str, Any]:
    """Return the values of a finished row: keep the Transaction UID for some time, and delete the rest."""
    forget_at = timestamp(now + _FORGOTTEN_AFTER)
    return {"state": state, "due_at": forget_at, "reference_list": "", "results": "", **FREE}


def _leased(row: sa.Row[Any]) -> Commitment:
    shared: dict[str, str] = {}  # thousands of references have few SOP Classes, studies and series
    written = json.loads(row.reference_list)
    references = tuple(Reference(*(shared.setdefault(uid, uid) for uid in uids)) for uids in written)
    results = tuple(FailureReason(code) if code else None for code in json.loads(row.results or "[]"))
    requester = Requester(row.site, row.ae_title, row.address)
    requested_at, own_only = moment(row.requested_at), bool(row.own_only)
    request = CommitmentRequest(row.transaction_uid, references, requester, requested_at, row.called_ae_title, own_only)
    return Commitment(row.id, request, results, row.attempts, row.lease)


def _summary(requester: Requester, rows: list[sa.Row[Any]]) -> OwedReports:
    """Summarize the rows of one requester, which are sorted by their last attempt."""
    states = [row.state for row in rows]
    tried = rows[-1].tried_at
    due = [row.due_at for row in rows if row.state == _OWED]
    return OwedReports(
        requester,
        waiting=states.count(_OPEN),
        owed=states.count(_OWED),
        given_up=states.count(_GIVEN_UP),
        since=moment(min(row.requested_at for row in rows)),
        error=rows[-1].error,
        tried_at=moment(tried) if tried else None,
        next_at=moment(min(due)) if due else None,
    )
