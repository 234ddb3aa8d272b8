"""The folders of this machine that a fresh system gets for pip."""

from __future__ import annotations

import pytest

from tests.fresh.host import paths_in


@pytest.fixture
def packages(tmp_path):
    """Return a folder with an index, and with the files that it leads to."""
    for name in ("simple", "files"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_folder_around_an_index(packages):
    assert paths_in(f"global.extra-index-url='{(packages / 'simple').as_uri()}'") == [str(packages)]


def test_a_folder_of_wheels(packages):
    found = paths_in(f":env:.find-links='{packages / 'files'} {packages / 'missing'}'")
    assert found == [str(packages / "files")]


def test_the_folder_of_a_file_of_constraints(packages):
    (packages / "constraints.txt").touch()
    assert paths_in(f"global.constraint='{packages / 'constraints.txt'}'") == [str(packages)]


@pytest.mark.parametrize("value", ["180", "/etc/ssl/certs/ca-certificates.crt", "https://localhost/simple", ""])
def test_what_is_no_folder_of_packages(value):
    assert paths_in(f"global.x='{value}'") == []
