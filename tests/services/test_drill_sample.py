"""The sample of a drill: at random, and always some of the newest, of the oldest and of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from backup_scp.ports import CopyItem, StoredVersion
from backup_scp.services.drill_sample import Sampler
from tests.stored import FIRST_ARRIVAL


def item(number: int, kind: str = "1.2.3") -> CopyItem:
    received = FIRST_ARRIVAL + timedelta(seconds=number)
    held = StoredVersion("1", "2", str(number), kind, "1.2.840.10008.1.2.1", f"{number}", "ab" * 32, 10, received)
    return CopyItem(number, held)


def drawn(most: int, items: list[CopyItem]) -> list[CopyItem]:
    sampler = Sampler(most)
    for start in range(0, len(items), 100):
        sampler.add(items[start : start + 100])
    return sampler.items()


@pytest.fixture
def many() -> list[CopyItem]:
    return [item(number) for number in range(1, 1001)]


def test_all_of_few(many):
    assert drawn(50, many[:30]) == many[:30]
    assert drawn(5, []) == []


def test_the_newest_and_the_oldest_are_in_it(many):
    found = drawn(50, many)
    assert len(found) == 50
    assert found[:5] == many[:5]
    assert found[-5:] == many[-5:]
    assert found == sorted(found, key=lambda one: one.number)


@pytest.mark.parametrize("at", [1, 400, 1000])
def test_a_kind_of_which_there_is_only_one_is_in_it(many, at):
    many[at - 1] = item(at, "9.9.9")
    assert many[at - 1] in drawn(3, many)


def test_each_image_is_as_likely_as_another(many):
    """Of 1,000 images 100 are drawn, 300 times: each third of them about equally often."""
    counts: Counter[int] = Counter()
    for _ in range(300):
        counts.update(one.number // 334 for one in _random_part(drawn(100, many)))
    first, second, third = (counts[part] for part in range(3))
    assert max(first, second, third) < 1.1 * min(first, second, third)


def _random_part(found: list[CopyItem]) -> Iterator[CopyItem]:
    """Leave out the oldest and the newest, which are always in it."""
    return (one for one in found if 5 < one.number <= 995)
