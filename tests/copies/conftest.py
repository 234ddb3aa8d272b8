"""Places for copies that the tests start themselves."""

from __future__ import annotations

import pytest

from tests.ceph import ceph_gateway


@pytest.fixture(scope="session")
def gateway():
    """A Ceph RADOS Gateway, once for all tests of a process."""
    with ceph_gateway() as running:
        yield running
