"""What a user is known by at a provider of logins (OpenID Connect)."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEX = "uq_account_issuer"


def upgrade() -> None:
    for name in ("issuer", "subject"):
        op.add_column("account", sa.Column(name, sa.Text(), nullable=True))
    op.create_index(_INDEX, "account", ["issuer", "subject"], unique=True)


def downgrade() -> None:
    op.drop_index(_INDEX, "account")
    for name in ("issuer", "subject"):
        op.drop_column("account", name)
