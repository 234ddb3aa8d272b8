"""Statements on the driver's own cursor do and return the same as SQLAlchemy's."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from backup_scp.errors import IndexUnavailable
from backup_scp.index.schema.tables import study, version
from backup_scp.index.writing import row_writer
from tests.index.examples import version as example


def study_key(index):
    with index._database.reading() as connection:
        row = connection.execute(sa.select(study)).mappings().one()
        return dict(row), {name: row[name] for name in row_writer.LOAD_STUDY.compile().params}


def test_a_row_is_the_same_either_way(shared_index):
    shared_index.add(example(PatientWeight="70.5", PatientName="Direct^One"))
    expected, key = study_key(shared_index)
    with shared_index._database.write_fast() as direct:
        assert direct.execute(row_writer.LOAD_STUDY, key).mappings().first() == expected
        assert direct.execute(row_writer.LOAD_STUDY, {**key, "patient_id": "nobody"}).mappings().first() is None
        (found,) = direct.execute(row_writer.VERSIONS_OF, {"of": 1}).mappings().all()
    with shared_index._database.reading() as connection:
        assert found == dict(connection.execute(row_writer.VERSIONS_OF, {"of": 1}).mappings().one())
        assert isinstance(found["sha256"], str)
        assert found["answering"] is True


def test_what_a_block_that_raises_has_written_is_undone(shared_index):
    before = shared_index.holdings()
    with contextlib.suppress(ZeroDivisionError), shared_index._database.write_fast() as direct:
        direct.execute(row_writer.COUNT_VERSION, {"of": 1, "more_bytes": 5, "at": "9"})
        raise ZeroDivisionError
    assert shared_index.holdings() == before


def test_an_error_of_the_driver_is_ours_and_says_nothing_of_the_values(shared_index):
    with (
        pytest.raises(IndexUnavailable) as caught,
        shared_index._database.write_fast() as direct,
    ):
        direct.execute(sa.insert(version), {"location": "SECRET"})
    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__
    shared_index.holdings()
