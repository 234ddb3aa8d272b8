"""Whom a version named that answers no longer; of those that were superseded before, a rebuild tells."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SUPERSEDED = sa.text("patient_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("version", sa.Column("patient_id", TEXT))
    op.create_index(
        "ix_version_patient_id", "version", ["patient_id"], sqlite_where=SUPERSEDED, postgresql_where=SUPERSEDED
    )


def downgrade() -> None:
    op.drop_index("ix_version_patient_id", "version")
    op.drop_column("version", "patient_id")
