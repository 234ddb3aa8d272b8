from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stored import Stored, stored_in


@pytest.fixture
def stored(tmp_path) -> Iterator[Stored]:
    """Open a real archive and a real index, both empty."""
    with stored_in(tmp_path) as stored:
        yield stored
