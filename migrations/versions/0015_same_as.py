"""Which version says the same as another one, in another encoding."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("version", sa.Column("same_as", TEXT, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    op.drop_column("version", "same_as")
