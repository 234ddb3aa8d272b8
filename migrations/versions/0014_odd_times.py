"""Dates and times that had no search key until now: a DT in their place, long fractions, a dot too many."""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

from backup_scp.dicom.value_representation import date_key, time_key

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

DATES = {
    "study": ("patient_birth_date", "study_date"),
    "series": ("series_date", "performed_procedure_step_start_date"),
    "instance": ("content_date", "acquisition_date"),
}
TIMES = {
    "study": ("patient_birth_time", "study_time"),
    "series": ("series_time", "performed_procedure_step_start_time"),
    "instance": ("content_time", "acquisition_time"),
}


def upgrade() -> None:
    for columns_of, key_of in ((DATES, date_key), (TIMES, time_key)):
        for table, columns in columns_of.items():
            for column in columns:
                _fill(table, column, key_of)


def downgrade() -> None:
    """Leave them: an older program compares them, too."""


def _fill(name: str, column: str, key_of: Callable[[str], str]) -> None:
    connection = op.get_bind()
    table = sa.table(name, sa.column("id", sa.BigInteger), *(sa.column(c, sa.Text) for c in (column, f"{column}_key")))
    text, key = table.c[column], table.c[f"{column}_key"]
    without = sa.select(table.c.id, text).where(key == "", text != "")
    for number, value in connection.execute(without).all():
        if found := key_of(value):
            connection.execute(sa.update(table).where(table.c.id == number).values({key: found}))
