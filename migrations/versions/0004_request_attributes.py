"""Series by the requests that they answer; rows entered before know of none until `backup-scp rebuild`."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write the ALTER TABLE itself: making the table anew would cost a copy of it, and its triggers."""
    collation = "" if op.get_bind().dialect.name == "sqlite" else ' COLLATE "C"'
    op.execute(f"ALTER TABLE series ADD COLUMN request_attributes_sequence TEXT{collation} DEFAULT '' NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE series DROP COLUMN request_attributes_sequence")
