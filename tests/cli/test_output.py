"""The output of commands, where no command is needed to test it."""

from __future__ import annotations

import pytest

from backup_scp.cli.output import count, work
from backup_scp.ports import Progress


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (2, "image", "2 images"),
        (1, "study", "1 study"),
        (2, "study", "2 studies"),
        (1, "series", "1 series"),
        (2, "series", "2 series"),
    ],
)
def test_a_number_with_its_noun(number, noun, words):
    assert count(number, noun) == words


def test_one_large_image_is_not_nearly_all_of_the_work():
    """Of 2,016 images one has half of the bytes: when it is sent, most of the time is still to come."""
    done, total = work(Progress(1, 2016, 15_000_000, 30_000_000))
    assert done / total < 0.1


def test_small_images_are_not_nearly_none_of_it():
    done, total = work(Progress(1000, 2000, 2_000_000, 4_000_000))
    assert done / total == pytest.approx(0.5)


def test_without_bytes_the_images_count():
    assert work(Progress(3, 10, 5)) == (3, 10)
