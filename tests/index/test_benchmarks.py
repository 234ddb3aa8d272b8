"""A filled index equals a grown one; otherwise benchmarks on it measure nothing."""

from __future__ import annotations

from benchmarks import fill_index, synthetic
from tests.index.conftest import opened
from tests.index.examples import rows, version


def test_a_filled_index_is_equal_to_one_that_grew(url, tmp_path):
    fill_index.fill(url, 12)
    fill_index.fill(url, 8, first=12)
    grown = f"sqlite:///{tmp_path}/grown.db"
    with opened(grown) as index:
        for number in range(20):
            for entered in synthetic.study(number):
                index.add(entered)
    assert rows(url) == rows(grown)


def test_a_filled_index_takes_more(url):
    fill_index.fill(url, 3)
    with opened(url) as index:
        index.add(version())
        index.add(synthetic.study(3)[0])
        assert index.holdings().studies == 5
