"""Why a copy cannot be used: it is away, stopped by an alarm, or something else."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("copy", sa.Column("trouble_kind", TEXT, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    op.drop_column("copy", "trouble_kind")
