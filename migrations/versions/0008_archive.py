"""Which archive the index was made of, and whether its disk keeps what it is given."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "archive",
        sa.Column("id", ID, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in ("identity", "trouble", "trouble_at", "trouble_ended_at")),
        sa.PrimaryKeyConstraint("id", name="pk_archive"),
    )


def downgrade() -> None:
    op.drop_table("archive")
