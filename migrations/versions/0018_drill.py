"""The results of drills, which are kept for years."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "drill",
        sa.Column("id", ID, nullable=False),
        sa.Column("copy", TEXT, nullable=False),
        sa.Column("medium", TEXT, nullable=False),
        sa.Column("ended_at", TEXT, nullable=False),
        sa.Column("is_full", sa.BigInteger(), nullable=False),
        sa.Column("result", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drill"),
    )
    op.create_index("ix_drill_copy_medium", "drill", ["copy", "medium"])


def downgrade() -> None:
    op.drop_table("drill")
