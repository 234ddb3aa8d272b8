"""What QIDO-RS asks of an index besides C-FIND: parts of an answer in a stable order, and the Transfer Syntax."""

from __future__ import annotations

import pytest

from backup_scp.dicom.attributes import AVAILABLE_TRANSFER_SYNTAX_UID, Level
from backup_scp.dicom.query.information_model import Query
from backup_scp.index.reading import select
from tests.index.examples import EXPLICIT, filling, version


@pytest.mark.parametrize(("level", "column"), [(Level.SERIES, "series.id"), (Level.IMAGE, "instance.id")])
def test_parts_of_an_answer_have_an_order(shared_index, level, column):
    def sorted_by(query: Query) -> str:
        return str(select.search(query, shared_index._database.dialect)).partition("ORDER BY ")[2]

    assert sorted_by(Query(level, in_order=True)) == column
    assert sorted_by(Query(level)) == ""


def test_each_part_follows_the_one_before(shared_index):
    with filling(shared_index) as enter:
        for number in range(9, 0, -1):
            enter(version(f"1.2.3.{number}", f"1.2.{number}", f"1.{number}"))
    found = [match["SOPInstanceUID"] for match in shared_index.search(Query(Level.IMAGE, in_order=True))]
    assert found == [f"1.2.3.{number}" for number in range(9, 0, -1)]


def test_the_transfer_syntax_of_the_version_that_answers(shared_index):
    with filling(shared_index) as enter:
        enter(version(content="first"))
        enter(version(content="second", minute=1))
    query = Query(Level.IMAGE, return_keys=(AVAILABLE_TRANSFER_SYNTAX_UID,))
    assert [match["AvailableTransferSyntaxUID"] for match in shared_index.search(query)] == [EXPLICIT]
