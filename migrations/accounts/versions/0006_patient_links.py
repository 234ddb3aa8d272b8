"""Links between patients of two clinics who are one person."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "patient_link",
        sa.Column("id", ID, nullable=False),
        *map(_text, ("one_site", "one_issuer", "one_patient_id", "other_site", "other_issuer", "other_patient_id")),
        sa.Column("linked_at", sa.BigInteger(), nullable=False),
        _text("linked_by"),
        sa.Column("unlinked_at", sa.BigInteger(), nullable=True),
        _text("unlinked_by"),
        sa.PrimaryKeyConstraint("id", name="pk_patient_link"),
    )
    for column in ("one_patient_id", "other_patient_id"):
        op.create_index(f"ix_patient_link_{column}", "patient_link", [column])


def downgrade() -> None:
    op.drop_table("patient_link")
