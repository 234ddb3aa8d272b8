"""Further copies: what each has, and what is due there."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def texts(*names: str) -> list[sa.Column]:
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def numbers(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "copy",
        sa.Column("id", ID, primary_key=True),
        *texts("name", "medium", "label"),
        *numbers("first_version", "last_version", "held_count", "held_bytes"),
        *texts("seen_at", "complete_at", "trouble", "trouble_at"),
        *numbers("compared_version"),
        *texts("comparison_began_at", "compared_until", "compared_at"),
        sa.UniqueConstraint("name", "medium", name="uq_copy_medium"),
    )
    op.create_table(
        "copy_due",
        sa.Column("id", ID, primary_key=True),
        *numbers("copy_id", "first_version", "last_version"),
        *texts("state", "due_at", "leased_until", "lease"),
        *numbers("attempts"),
        *texts("error"),
        *numbers("is_damaged"),
    )
    op.create_index("ix_copy_due_copy_id_due_at", "copy_due", ["copy_id", "due_at"])
    op.create_table(
        "copy_object",
        sa.Column("copy_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("version_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        *texts("name"),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        *numbers("size_bytes"),
        *texts("object_version"),
        *numbers("is_damaged"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("copy_object")
    op.drop_table("copy_due")
    op.drop_table("copy")
