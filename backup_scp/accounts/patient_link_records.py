"""Links between patients of two clinics."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import patient_link
from backup_scp.accounts.connection import AccountsDatabase
from backup_scp.errors import InvalidSelection
from backup_scp.ports import ClinicPatient, PatientLink, SiteScope

_ENDS = ("one", "other")
_COUNTS = patient_link.c.unlinked_at.is_(None)


class SQLPatientLinkRecords:
    """Implements ``ports.patient_links.PatientLinkRecords``."""

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database

    def link_patients(self, one: ClinicPatient, other: ClinicPatient, at: datetime, by: str) -> PatientLink:
        one, other = sorted((one, other))
        row = _named("one", one) | _named("other", other) | {"linked_at": at, "linked_by": by, "unlinked_by": ""}
        there = sa.select(patient_link.c.id).where(_COUNTS, _is("one", one), _is("other", other))
        with self._database.writing() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
                connection.execute(sa.text(f"LOCK TABLE {patient_link.name} IN SHARE ROW EXCLUSIVE MODE"))
            if connection.scalar(there) is not None:
                raise InvalidSelection("These patients are linked already")
            (number,) = connection.execute(sa.insert(patient_link).values(**row)).inserted_primary_key or (0,)
        return PatientLink(number, one, other, at, by)

    def unlink_patients(self, number: int, at: datetime, by: str) -> bool:
        ended = sa.update(patient_link).where(patient_link.c.id == number, _COUNTS)
        with self._database.writing() as connection:
            return connection.execute(ended.values(unlinked_at=at, unlinked_by=by)).rowcount == 1

    def patient_link(self, number: int) -> PatientLink | None:
        return next(iter(self._found(sa.select(patient_link).where(patient_link.c.id == number))), None)

    def patient_links(self, scope: SiteScope, most: int) -> list[PatientLink]:
        wanted = sa.select(patient_link).where(*_within(scope)).order_by(patient_link.c.id.desc())
        return self._found(wanted.limit(most))

    def links_of(self, patient: ClinicPatient, scope: SiteScope) -> list[PatientLink]:
        ends = sa.or_(*(_is(end, patient) for end in _ENDS))
        return self._found(sa.select(patient_link).where(_COUNTS, ends, *_within(scope)).order_by(patient_link.c.id))

    def _found(self, wanted: sa.Select[tuple[object, ...]]) -> list[PatientLink]:
        with self._database.reading() as connection:
            return [_link_of(row) for row in connection.execute(wanted).mappings()]


def _named(end: str, patient: ClinicPatient) -> dict[str, str]:
    return {f"{end}_site": patient.site, f"{end}_issuer": patient.issuer, f"{end}_patient_id": patient.patient_id}


def _is(end: str, patient: ClinicPatient) -> sa.ColumnElement[bool]:
    return sa.and_(*(patient_link.c[name] == value for name, value in _named(end, patient).items()))


def _within(scope: SiteScope) -> list[sa.ColumnElement[bool]]:
    return [] if scope.sites is None else [patient_link.c[f"{end}_site"].in_(scope.sites) for end in _ENDS]


def _link_of(row: sa.RowMapping) -> PatientLink:
    one, other = (ClinicPatient(*(row[f"{end}_{name}"] for name in ("site", "issuer", "patient_id"))) for end in _ENDS)
    return PatientLink(
        row["id"], one, other, row["linked_at"], row["linked_by"], row["unlinked_at"], row["unlinked_by"]
    )
