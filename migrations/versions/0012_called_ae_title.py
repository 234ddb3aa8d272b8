"""Who the node is to those who ask for a Storage Commitment: its report says so."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("commitment", sa.Column("called_ae_title", TEXT, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    op.drop_column("commitment", "called_ae_title")
