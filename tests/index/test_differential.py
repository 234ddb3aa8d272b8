"""Random identifiers against the reference matcher: from the encoded request to the answers, on both engines."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from backup_scp.dicom.query.identifier import Identifier
from backup_scp.dicom.query.information_model import Level, Negotiated, read_query
from tests.differential import Asked, archive, asked, versions
from tests.index.examples import filling
from tests.reference_archive import ReferenceArchive

IDENTIFIERS = int(os.environ.get("BACKUP_SCP_TEST_IDENTIFIERS", "2000"))
OF_ONE_ARCHIVE = 400


def answered(index, question: Asked) -> list[dict[str, str]]:
    identifier = Identifier.read(question.encoded, question.transfer_syntax)
    negotiated = Negotiated(**dict.fromkeys(question.negotiated, True))
    return list(index.search(read_query(identifier, question.model, negotiated)))


def expected(reference: ReferenceArchive, question: Asked) -> list[dict[str, str]]:
    return reference.answers(question.level, question.model.levels[0], question.keys, question.negotiated)


def counted(answers: list[dict[str, str]]) -> Counter:
    return Counter(tuple(sorted(answer.items())) for answer in answers)


def smallest(index, reference, question: Asked) -> Asked:
    """Leave out keys as long as the answers still differ."""
    for keyword in list(question.keys):
        less = question.without(keyword)
        if counted(answered(index, less)) != counted(expected(reference, less)):
            question = less
    return question


def difference(index, reference, question: Asked) -> str:
    found, right = counted(answered(index, question)), counted(expected(reference, question))
    return f"{question}\nonly the index: {list(found - right)[:3]}\nonly the reference: {list(right - found)[:3]}"


@pytest.mark.parametrize("seed", range(-(-IDENTIFIERS // OF_ONE_ARCHIVE)))
def test_the_index_answers_as_the_standard_says(shared_index, seed):
    chance = random.Random(seed)
    instances = archive(chance)
    reference = ReferenceArchive(instances)
    with filling(shared_index) as enter:
        for each in versions(chance, instances):
            enter(each)
    for _ in range(OF_ONE_ARCHIVE):
        question = asked(chance, chance.choice(reference.rows[Level.IMAGE]))
        if counted(answered(shared_index, question)) != counted(expected(reference, question)):
            pytest.fail(difference(shared_index, reference, smallest(shared_index, reference, question)))
