"""What reads bytes of strangers raises nothing but what it says; `make fuzz` goes on for millions of them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import PARSERS


@pytest.mark.parametrize("kind", PARSERS)
@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_whatever_comes_is_read_or_refused_in_words(kind, rng: Random):
    PARSERS[kind](rng)


@pytest.mark.parametrize("kind", PARSERS)
def test_many_more_from_fixed_seeds(kind):
    for number in range(1500):
        PARSERS[kind](Random(f"test:{kind}:{number}"))
