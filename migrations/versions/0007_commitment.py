"""Storage Commitment: what is asked of us and the reports that are owed, and what we have asked of others."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column:
    return sa.Column(name, TEXT, nullable=False)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "commitment",
        sa.Column("id", ID, nullable=False),
        *map(_text, ("site", "ae_title", "address", "transaction_uid", "requested_at", "state")),
        _number("reference_count"),
        *map(_text, ("due_at", "leased_until", "lease")),
        _number("attempts"),
        *map(_text, ("tried_at", "error", "reference_list", "results")),
        sa.PrimaryKeyConstraint("id", name="pk_commitment"),
        sa.UniqueConstraint("site", "ae_title", "transaction_uid", name="uq_commitment_transaction"),
    )
    op.create_table(
        "commitment_asked",
        sa.Column("id", ID, nullable=False),
        *map(_text, ("transaction_uid", "asked_at", "results")),
        sa.PrimaryKeyConstraint("id", name="pk_commitment_asked"),
        sa.UniqueConstraint("transaction_uid", name="uq_commitment_asked_transaction"),
    )
    op.create_index("ix_commitment_state_due_at", "commitment", ["state", "due_at"])


def downgrade() -> None:
    op.drop_table("commitment_asked")
    op.drop_table("commitment")
