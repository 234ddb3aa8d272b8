"""Studies by Patient's Birth Date, which viewers ask for on its own."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_study_patient_birth_date_key", "study", ["patient_birth_date_key"])


def downgrade() -> None:
    op.drop_index("ix_study_patient_birth_date_key", "study")
