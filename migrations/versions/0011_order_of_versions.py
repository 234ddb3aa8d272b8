"""Who sent a version, in what order versions came, and until when each answered."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NEW = ("remote", "ordered_at", "answered_until")

# As the rule was until now: the next version of the sender whose version answers took the place of one.
ANSWERED_UNTIL = """
UPDATE version SET answered_until = coalesce((
    SELECT min(later.received_at) FROM version AS later
    WHERE later.instance_id = version.instance_id
    AND later.site = version.site AND later.calling_ae_title = version.calling_ae_title
    AND (later.received_at, later.location) > (version.received_at, version.location)
), '')
WHERE NOT answering AND EXISTS (
    SELECT 1 FROM version AS present
    WHERE present.instance_id = version.instance_id AND present.answering
    AND present.site = version.site AND present.calling_ae_title = version.calling_ae_title
)
"""


def upgrade() -> None:
    for name in NEW:
        op.add_column("version", sa.Column(name, TEXT, nullable=False, server_default=sa.text("''")))
    op.execute(ANSWERED_UNTIL)


def downgrade() -> None:
    for name in NEW:
        op.drop_column("version", name)
