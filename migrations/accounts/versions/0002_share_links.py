"""Links that show one study, and the browsers that have opened them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "share_link",
        sa.Column("id", ID, nullable=False),
        *map(_text, ("digest", "pin_hash", "study_instance_uid", "site")),
        sa.Column("may_save", sa.Integer(), nullable=False),
        *map(_text, ("made_by", "made_for")),
        *map(_number, ("made_at", "until")),
        sa.Column("opened", sa.Integer(), nullable=False),
        _number("opened_at", nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        _number("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_share_link"),
        sa.UniqueConstraint("digest", name="uq_share_link_digest"),
    )
    op.create_index("ix_share_link_study_instance_uid", "share_link", ["study_instance_uid"])
    op.create_index("ix_share_link_site", "share_link", ["site"])
    op.create_table(
        "share_session",
        _text("digest"),
        sa.Column("share_link_id", ID, nullable=False),
        _number("until"),
        sa.PrimaryKeyConstraint("digest", name="pk_share_session"),
        sa.ForeignKeyConstraint(
            ["share_link_id"], ["share_link.id"], name="fk_share_session_share_link_id_share_link", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_share_session_share_link_id", "share_session", ["share_link_id"])
    op.create_index("ix_share_session_until", "share_session", ["until"])


def downgrade() -> None:
    for table in ("share_session", "share_link"):
        op.drop_table(table)
