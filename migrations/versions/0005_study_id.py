"""Studies by Study ID, a required key (PS3.4 Table C.6-2)."""

import sqlalchemy as sa
from alembic import op

from backup_scp.index.schema.stored_text import LONGEST_KEY, stored_key

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STUDY = sa.table("study", sa.column("id", sa.BigInteger), sa.column("study_id", sa.Text))
_UTF8_BYTES = 4  # of a character, at most


def upgrade() -> None:
    """What is too long for a database index is shortened first, as it is from now on when it comes in."""
    connection = op.get_bind()
    long = sa.select(_STUDY).where(sa.func.length(_STUDY.c.study_id) > LONGEST_KEY // _UTF8_BYTES)
    for key, text in connection.execute(long).all():
        connection.execute(sa.update(_STUDY).where(_STUDY.c.id == key).values(study_id=stored_key(text)))
    op.create_index("ix_study_study_id", "study", ["study_id"])


def downgrade() -> None:
    op.drop_index("ix_study_study_id", "study")
