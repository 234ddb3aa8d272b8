"""The tables: study (with its patient), series, instance, version; what the node keeps beside them.

Each attribute of ``attributes.py`` that is read from Data Sets has a text column of its own name in its level's table
(those of the patient stand on the study: two people are never merged by a clash of Patient IDs), empty where unknown,
and search keys beside it as ``keys.py`` describes.  Text is compared bytewise on both engines (collation "C").
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
    """A SHA-256: 64 hex digits outside, 32 bytes inside."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else bytes(value).hex()


def own_attributes(*levels: Level) -> tuple[Attribute, ...]:
    """Give the attributes of these levels that are read from Data Sets."""
    return tuple(a for a in ATTRIBUTES if a.level in levels and not a.computed)


STUDY_ATTRIBUTES = own_attributes(Level.PATIENT, Level.STUDY)
SERIES_ATTRIBUTES = own_attributes(Level.SERIES)
INSTANCE_ATTRIBUTES = own_attributes(Level.IMAGE)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=False)


def _late_text(name: str) -> sa.Column[str]:
    """Make a column that came later: the rows that there were are empty there."""
    return sa.Column(name, Text, nullable=False, server_default=sa.text("''"))


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _columns(attributes: tuple[Attribute, ...]) -> list[sa.Column[object]]:
    """Make one text column an attribute, then its search keys; numbers are NULL where there is none."""
    columns: list[sa.Column[object]] = []
    for attribute in attributes:
        default = sa.text("''") if attribute.items else None  # it came later: the rows that there were need one
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
    # Sums over its versions, so that holdings need no scan of them.
    _number("version_count"),
    _number("size_bytes"),
    _text("last_received_at"),
    # What the attributes are merged from: see merging.py.
    _text("merged_at"),
    _text("merged_earlier"),
    # Drawn at random, one more at each change: whoever remembers a row sees that it is another, see admission.py.
    _number("revision"),
    # In this order it serves queries by Study Instance UID as well.
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
    # Whom a version names that does not answer, or no longer; for one that does the study row says it.
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
    _late_text("ordered_at"),  # what versions are in order of, where it is not received_at
    _late_text("same_as"),  # the SHA-256 of one that says the same in another encoding
    _late_text("answered_until"),  # when another one took its place; empty while it answers, and where it never did
    _text("flags"),  # sorted, joined by a comma
    _text("verified_at"),  # empty while it never was
    sa.Column("damage", Text),  # NULL: intact, as far as is known
    sa.UniqueConstraint("instance_id", "sha256"),
    sa.UniqueConstraint("location"),
    sa.Index(None, "verified_at", "id"),
    # ``postgresql.py`` says the same to PostgreSQL: its options are known to its dialect only, which is slow to load.
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
    _text("cause"),  # the reason without numbers: what makes two of them one
    _text("reason"),
    _text("fix"),
    _number("count"),
    _text("last_at"),
    sa.UniqueConstraint(
        "service", "calling_ae_title", "called_ae_title", "address", "cause", name="uq_rejection_cause"
    ),
)

archive = sa.Table(  # one row
    "archive",
    METADATA,
    _id(),
    _text("identity"),  # what its marker says
    _text("trouble"),  # why its disk is not trusted
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
    _text("due_at"),  # when it is looked at, reported or forgotten
    _text("leased_until"),  # empty while nobody has it
    _text("lease"),
    _number("attempts"),
    _text("tried_at"),
    _text("error"),
    sa.Column("own_only", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    # These may be long: they stand last, so that the others are read without them.
    _text("reference_list"),  # JSON; empty when it is done with
    _text("results"),  # JSON, in the same order; empty before
    _late_text("called_ae_title"),  # who we are to the requester
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

task = sa.Table(
    "task",
    METADATA,
    sa.Column("name", Text, primary_key=True),
    _text("began_at"),
    _text("ended_at"),  # empty while it is under way
    _text("position"),
    _number("done"),
    _text("note"),
)


def order_of(versions: sa.FromClause) -> sa.ColumnElement[str]:
    """Give what versions are in order of: see ``Arrival.order``."""
    said = versions.c.ordered_at
    return sa.case((said == "", versions.c.received_at), else_=said)


def named(table: sa.Table, names: str) -> tuple[sa.Column[Any], ...]:
    """Give the columns of a table that are named, separated by blanks."""
    return tuple(table.c[name] for name in names.split())
