"""The tables of users, sessions, links, share links and the audit.  Their names do not clash with those of an index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

HEAD = "0004"
"""The newest migration in ``migrations/accounts``; a test holds it equal to the folder."""

VERSION_TABLE = "accounts_version"
"""Where alembic notes the migration: an index in the same database has its own."""

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StoredMoment(sa.types.TypeDecorator[datetime]):
    """A time: a datetime in Python, microseconds since 1970 in the database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def _account_id(*, primary_key: bool = False, nullable: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey("account.id", ondelete="CASCADE")
    return sa.Column("account_id", Id, key, primary_key=primary_key, nullable=nullable)


account = sa.Table(
    "account",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_key", sa.Text, nullable=False, unique=True),  # as names are compared
    sa.Column("roles", sa.Text, nullable=False),  # JSON: site -> role; one row tells all that a request asks for
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("code_secret", sa.Text, nullable=False),
    sa.Column("code_step", sa.BigInteger, nullable=False),  # the last one used
    sa.Column("is_disabled", sa.Integer, nullable=False),
    sa.Column("added_at", StoredMoment, nullable=False),
    sa.Column("issuer", sa.Text, nullable=True),  # of a provider of logins; None for a user who is linked to none
    sa.Column("subject", sa.Text, nullable=True),  # the user's identifier there
)
sa.Index("uq_account_issuer", account.c.issuer, account.c.subject, unique=True)

recovery_code = sa.Table(
    "recovery_code",
    METADATA,
    _account_id(primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
)

session = sa.Table(
    "session",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    _account_id(),
    sa.Column("began_at", StoredMoment, nullable=False),
    sa.Column("seen_at", StoredMoment, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("is_complete", sa.Integer, nullable=False),
)
sa.Index(None, session.c.account_id)

one_time_link = sa.Table(
    "one_time_link",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    _account_id(nullable=True),
    sa.Column("until", StoredMoment, nullable=False),
)

audit = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    sa.Column("at", StoredMoment, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
)

failure = sa.Table(
    "failure",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),  # a digest: what a stranger typed may be a password
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("last_at", StoredMoment, nullable=False),
)
sa.Index(None, failure.c.kind, failure.c.last_at)

patient_link = sa.Table(  # patient data: as private as the index
    "patient_link",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    *(
        sa.Column(f"{end}_{name}", sa.Text, nullable=False)
        for end in ("one", "other")
        for name in ("site", "issuer", "patient_id")
    ),
    sa.Column("linked_at", StoredMoment, nullable=False),
    sa.Column("linked_by", sa.Text, nullable=False),
    sa.Column("unlinked_at", StoredMoment),  # NULL while it counts
    sa.Column("unlinked_by", sa.Text, nullable=False),
)
sa.Index(None, patient_link.c.one_patient_id)
sa.Index(None, patient_link.c.other_patient_id)

passkey = sa.Table(
    "passkey",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    _account_id(),
    sa.Column("credential_id", sa.Text, nullable=False, unique=True),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("rp_id", sa.Text, nullable=False),
    sa.Column("handle", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("added_at", StoredMoment, nullable=False),
    sa.Column("used_at", StoredMoment, nullable=True),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
)
sa.Index(None, passkey.c.account_id)

share_link = sa.Table(
    "share_link",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    sa.Column("pin_hash", sa.Text, nullable=False),
    sa.Column("study_instance_uid", sa.Text, nullable=False, index=True),
    sa.Column("site", sa.Text, nullable=False, index=True),
    sa.Column("may_save", sa.Integer, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("made_for", sa.Text, nullable=False),
    sa.Column("made_at", StoredMoment, nullable=False),
    sa.Column("until", StoredMoment, nullable=False),
    sa.Column("opened", sa.Integer, nullable=False),
    sa.Column("opened_at", StoredMoment),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("revoked_at", StoredMoment),
)

share_session = sa.Table(
    "share_session",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("share_link_id", Id, sa.ForeignKey("share_link.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("until", StoredMoment, nullable=False, index=True),
)
