"""Users, sessions, links for one use, the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False)


def _account(table: str, *, nullable: bool = False) -> tuple[sa.Column, sa.ForeignKeyConstraint]:
    key = sa.ForeignKeyConstraint(
        ["account_id"], ["account.id"], name=f"fk_{table}_account_id_account", ondelete="CASCADE"
    )
    return sa.Column("account_id", ID, nullable=nullable), key


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", ID, nullable=False),
        *map(_text, ("name", "name_key", "roles", "password_hash", "code_secret")),
        _number("code_step"),
        _flag("is_disabled"),
        _number("added_at"),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("name_key", name="uq_account_name_key"),
    )
    op.create_table(
        "recovery_code",
        *_account("recovery_code"),
        _text("digest"),
        sa.PrimaryKeyConstraint("account_id", "digest", name="pk_recovery_code"),
    )
    op.create_table(
        "session",
        _text("digest"),
        *_account("session"),
        *map(_number, ("began_at", "seen_at")),
        *map(_text, ("address", "agent")),
        _flag("is_complete"),
        sa.PrimaryKeyConstraint("digest", name="pk_session"),
    )
    op.create_index("ix_session_account_id", "session", ["account_id"])
    op.create_table(
        "one_time_link",
        *map(_text, ("digest", "kind")),
        *_account("one_time_link", nullable=True),
        _number("until"),
        sa.PrimaryKeyConstraint("digest", name="pk_one_time_link"),
    )
    op.create_table(
        "audit",
        sa.Column("id", ID, nullable=False),
        _number("at"),
        *map(_text, ("kind", "who", "about", "address")),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )


def downgrade() -> None:
    for table in ("audit", "one_time_link", "session", "recovery_code", "account"):
        op.drop_table(table)
