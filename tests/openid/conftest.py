from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.openid.forger import Forger


@pytest.fixture
def forger() -> Iterator[Forger]:
    with Forger().running() as running:
        yield running
