"""What a rejected caller asked for; rejections that differ in a number only are one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXTS = ("calling_ae_title", "called_ae_title", "address", "reason", "fix", "last_at")


def upgrade() -> None:
    rows = [{**row, **_service_and_cause(row)} for row in _taken_out()]
    unique = ("service", "calling_ae_title", "called_ae_title", "address", "cause")
    _create(("service", "cause", *TEXTS), unique)
    _put_in(_latest(rows, unique))


def downgrade() -> None:
    rows = [{name: row[name] for name in (*TEXTS, "count")} for row in _taken_out()]
    unique = ("calling_ae_title", "called_ae_title", "address", "reason")
    _create(TEXTS, unique)
    _put_in(_latest(rows, unique))


def _latest(rows: Iterable[dict[str, Any]], unique: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Give one row for each cause; what was counted before is let go with it."""
    return {tuple(row[name] for name in unique): row for row in rows}.values()


def _taken_out() -> list[dict[str, Any]]:
    """Give what is there, at most a thousand rows, and drop the table: SQLite cannot change a constraint."""
    rows = [dict(row) for row in op.get_bind().execute(sa.text("SELECT * FROM rejection ORDER BY last_at")).mappings()]
    op.drop_table("rejection")
    return rows


def _create(texts: Sequence[str], unique: Sequence[str]) -> None:
    op.create_table(
        "rejection",
        sa.Column("id", ID, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in texts),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rejection"),
        sa.UniqueConstraint(*unique, name="uq_rejection_cause"),
    )


def _put_in(rows: Iterable[dict[str, Any]]) -> None:
    names = ("service", "cause", *TEXTS, "count")
    table = sa.table("rejection", *(sa.column(name) for name in names))
    for row in rows:
        op.get_bind().execute(table.insert().values({name: row[name] for name in names if name in row}))


def _service_and_cause(row: Mapping[str, Any]) -> dict[str, str]:
    service = "association"
    if "may not query" in row["reason"]:
        service = "query"
    elif row["reason"].startswith("Move Destination"):
        service = "retrieve"
    elif not row["calling_ae_title"] and not row["called_ae_title"]:
        service = "tls"
    return {"service": service, "cause": re.sub(r"\S*\d\S*", "#", row["reason"])}
