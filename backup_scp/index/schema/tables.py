"""The tables: study (with its patient), series, instance, version, and the node's other records.

Each attribute of ``attributes.py`` that is read from Data Sets has a text column with its name in the table of its
level; the text is empty when unknown.  Search keys are in further columns, see ``search_keys.py``.  Patient attributes
are in the study table, so that a clash of Patient IDs never merges two people.  Both engines compare text bytewise
(collation "C").
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from backup_scp.dicom.attributes import ATTRIBUTES, Attribute, Level
from backup_scp.index.schema.search_keys import key_columns

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_KEY_TYPES: dict[str, sa.types.TypeEngine[Any]] = {"IS": sa.BigInteger(), "DS": sa.Double()}


class DigestType(sa.types.TypeDecorator[str]):
    """A SHA-256: 64 hex digits in Python, 32 bytes in the database."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else bytes(value).hex()


def own_attributes(*levels: Level) -> tuple[Attribute, ...]:
    """Return the attributes of these levels that are read from Data Sets."""
    return tuple(a for a in ATTRIBUTES if a.level in levels and not a.computed)


STUDY_ATTRIBUTES = own_attributes(Level.PATIENT, Level.STUDY)
SERIES_ATTRIBUTES = own_attributes(Level.SERIES)
INSTANCE_ATTRIBUTES = own_attributes(Level.IMAGE)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=False)


def _late_text(name: str) -> sa.Column[str]:
    """Return a column that a migration added: older rows have empty text there."""
    return sa.Column(name, Text, nullable=False, server_default=sa.text("''"))


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _columns(attributes: tuple[Attribute, ...]) -> list[sa.Column[object]]:
    """Return a text column for each attribute, then its key columns; a missing number is NULL."""
    columns: list[sa.Column[object]] = []
    for attribute in attributes:
        default = sa.text("''") if attribute.items else None  # a migration added it: older rows need a default
        columns.append(sa.Column(attribute.column, Text, nullable=False, server_default=default))
        kind = _KEY_TYPES.get(attribute.vr)
        columns += [sa.Column(name, kind or Text, nullable=kind is not None) for name in key_columns(attribute)]
    return columns


def _id() -> sa.Column[int]:
    return sa.Column("id", Id, primary_key=True)


study = sa.Table(
    "study",
    METADATA,
    _id(),
    _text("site"),
    *_columns(STUDY_ATTRIBUTES),
    _text("patient_key"),
    _text("modalities_in_study"),
    _text("sop_classes_in_study"),
    _number("number_of_study_related_series"),
    _number("number_of_study_related_instances"),
    # Sums over the study's versions, so that holdings need no scan.
    _number("version_count"),
    _number("size_bytes"),
    _text("last_received_at"),
    # State of the merge, see attribute_merge.py.
    _text("merged_at"),
    _text("merged_earlier"),
    # Starts at a random number, grows at each change: a cached row is outdated when it differs, see study_cache.py.
    _number("revision"),
    # In this order it also serves queries by Study Instance UID.
    sa.UniqueConstraint("study_instance_uid", "patient_id", "issuer_of_patient_id", "site", name="uq_study_entity"),
    sa.Index(None, "patient_id"),
    sa.Index(None, "accession_number"),
    sa.Index(None, "study_id"),
    sa.Index(None, "patient_birth_date_key"),
    sa.Index(None, "study_date_key", "id"),
    sa.Index(None, "patient_name_alphabetic"),
    sa.Index(None, "patient_name_ideographic"),
    sa.Index(None, "patient_name_phonetic"),
    sa.Index(None, "patient_key", "study_date_key", "id"),
)

series = sa.Table(
    "series",
    METADATA,
    _id(),
    sa.Column("study_id", Id, sa.ForeignKey("study.id"), nullable=False),
    *_columns(SERIES_ATTRIBUTES),
    _number("number_of_series_related_instances"),
    _text("merged_at"),
    _text("merged_earlier"),
    sa.UniqueConstraint("study_id", "series_instance_uid"),
    sa.Index(None, "series_instance_uid"),
)

instance = sa.Table(
    "instance",
    METADATA,
    _id(),
    sa.Column("series_id", Id, sa.ForeignKey("series.id"), nullable=False),
    *_columns(INSTANCE_ATTRIBUTES),
    sa.UniqueConstraint("sop_instance_uid", "series_id"),
    sa.Index(None, "series_id"),
)

REMARKABLE = sa.text("flags <> '' OR damage IS NOT NULL")
SUPERSEDED = sa.text("patient_id IS NOT NULL")

version = sa.Table(
    "version",
    METADATA,
    _id(),
    sa.Column("instance_id", Id, sa.ForeignKey("instance.id"), nullable=False),
    sa.Column("sha256", DigestType(), nullable=False),
    sa.Column("answering", sa.Boolean(), nullable=False),  # one version of each instance answers queries
    # The patient that a version names, when it does not answer (any more); for an answering one the study row has it.
    sa.Column("patient_id", Text),
    _text("location"),
    _number("size_bytes"),
    _text("sop_class_uid"),
    _text("transfer_syntax_uid"),
    _text("received_at"),
    _text("service"),
    _text("calling_ae_title"),
    _text("called_ae_title"),
    _text("address"),
    _text("site"),
    _late_text("remote"),
    _late_text("ordered_at"),  # the sort key of the version, when it is not received_at
    _late_text("same_as"),  # the SHA-256 of a version with the same content in another encoding
    _late_text("answered_until"),  # when another version replaced it; empty while it answers, or if it never did
    _text("flags"),  # sorted, joined by a comma
    _text("verified_at"),  # empty before the first verification
    sa.Column("damage", Text),  # NULL: intact, as far as is known
    sa.UniqueConstraint("instance_id", "sha256"),
    sa.UniqueConstraint("location"),
    sa.Index(None, "verified_at", "id"),
    # ``postgresql.py`` adds the same conditions for PostgreSQL: loading its dialect here would be slow.
    sa.Index("ix_version_patient_id", "patient_id", sqlite_where=SUPERSEDED),
    sa.Index("ix_version_remarkable", "received_at", sqlite_where=REMARKABLE),
)

rejection = sa.Table(
    "rejection",
    METADATA,
    _id(),
    _text("service"),
    _text("calling_ae_title"),
    _text("called_ae_title"),
    _text("address"),
    _text("cause"),  # the reason without numbers; equal ones are counted together
    _text("reason"),
    _text("fix"),
    _number("count"),
    _text("last_at"),
    sa.UniqueConstraint(
        "service", "calling_ae_title", "called_ae_title", "address", "cause", name="uq_rejection_cause"
    ),
)

archive = sa.Table(  # has one row
    "archive",
    METADATA,
    _id(),
    _text("identity"),  # the identity in its marker
    _text("trouble"),  # the fault of its disk
    _text("trouble_at"),
    _text("trouble_ended_at"),  # empty while it lasts
)


commitment = sa.Table(
    "commitment",
    METADATA,
    _id(),
    _text("site"),
    _text("ae_title"),
    _text("address"),
    _text("transaction_uid"),
    _text("requested_at"),
    _text("state"),  # see commitments.py
    _number("reference_count"),
    _text("due_at"),  # time of the next step: verify, report or delete
    _text("leased_until"),  # empty while it is not leased
    _text("lease"),
    _number("attempts"),
    _text("tried_at"),
    _text("error"),
    sa.Column("own_only", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    # Long columns come last, so that the others can be read without them.
    _text("reference_list"),  # JSON; empty when the request is finished
    _text("results"),  # JSON, in the same order; empty before the instances are verified
    _late_text("called_ae_title"),  # our AE title in the request
    sa.UniqueConstraint("site", "ae_title", "transaction_uid", name="uq_commitment_transaction"),
    sa.Index(None, "state", "due_at"),
)

commitment_asked = sa.Table(
    "commitment_asked",
    METADATA,
    _id(),
    _text("transaction_uid"),
    _text("asked_at"),
    _text("results"),  # JSON; empty before the report
    sa.UniqueConstraint("transaction_uid", name="uq_commitment_asked_transaction"),
)

copy = sa.Table(  # a row for each drive, where several take turns
    "copy",
    METADATA,
    _id(),
    _text("name"),
    _text("medium"),
    _text("label"),
    # All versions with these numbers are there, but for those in copy_due; empty while first is above last.
    _number("first_version"),
    _number("last_version"),
    _number("held_count"),  # sums over copy_object, without what is damaged
    _number("held_bytes"),
    _text("seen_at"),
    _text("complete_at"),
    _text("trouble"),
    _text("trouble_at"),
    _late_text("trouble_kind"),  # a ports.CopyTrouble
    _late_text("alarm"),  # what a comparison noticed besides damage
    _late_text("alarm_at"),  # by the begin of a part of a comparison, as comparison_began_at
    _number("compared_version"),  # where the running comparison goes on
    _text("comparison_began_at"),  # of the running pass
    _text("compared_until"),  # begin of the last pass that ended
    _text("compared_at"),  # its end
    sa.UniqueConstraint("name", "medium", name="uq_copy_medium"),
)

copy_due = sa.Table(  # work that is leased, or was tried and failed
    "copy_due",
    METADATA,
    _id(),
    _number("copy_id"),
    _number("first_version"),
    _number("last_version"),
    _text("state"),  # always "due": see leases.py
    _text("due_at"),
    _text("leased_until"),
    _text("lease"),
    _number("attempts"),
    _text("error"),
    _number("is_damaged"),  # 1: all of it was there, and was found damaged or missing
    sa.Index(None, "copy_id", "due_at"),
)

# What is there of each version; no foreign keys, because a re-index deletes versions and adds them again.
copy_object = sa.Table(
    "copy_object",
    METADATA,
    sa.Column("copy_id", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("version_id", sa.BigInteger(), primary_key=True, autoincrement=False),
    _text("name"),
    sa.Column("sha256", DigestType(), nullable=False),
    _number("size_bytes"),
    _text("object_version"),
    _number("is_damaged"),  # 1: found damaged or missing, and not written again yet
    sqlite_with_rowid=False,
)

drill = sa.Table(  # results, kept for years
    "drill",
    METADATA,
    _id(),
    _text("copy"),
    _text("medium"),
    _text("ended_at"),
    _number("is_full"),
    _text("result"),  # a ports.DrillResult in JSON
    sa.Index(None, "copy", "medium"),
)

task = sa.Table(
    "task",
    METADATA,
    sa.Column("name", Text, primary_key=True),
    _text("began_at"),
    _text("ended_at"),  # empty while the task runs
    _text("position"),
    _number("done"),
    _text("note"),
)


def order_of(versions: sa.FromClause) -> sa.ColumnElement[str]:
    """Return the sort key of versions: see ``Arrival.order``."""
    said = versions.c.ordered_at
    return sa.case((said == "", versions.c.received_at), else_=said)


def named(table: sa.Table, names: str) -> tuple[sa.Column[Any], ...]:
    """Return the columns of a table by their names, separated by spaces."""
    return tuple(table.c[name] for name in names.split())
