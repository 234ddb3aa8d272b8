"""What was noticed at a copy that is no damage, and needs a person all the same."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NAMES = ("alarm", "alarm_at")


def upgrade() -> None:
    for name in NAMES:
        op.add_column("copy", sa.Column(name, TEXT, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    for name in reversed(NAMES):
        op.drop_column("copy", name)
