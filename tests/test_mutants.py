"""The table of `make mutants` names existing modules and tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.core import CORE

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", CORE)
def test_a_module_of_the_core_and_its_tests_are_there(module):
    assert (ROOT / "backup_scp" / module).is_file()
    assert [name for name in CORE[module] if not (ROOT / name).exists()] == []


def test_what_is_said_to_be_equivalent_is_a_line_of_a_module_of_the_core():
    """Otherwise a line would stay in the list after its code has changed."""
    for line in (ROOT / "tests" / "mutants" / "equivalent.txt").read_text("utf-8").splitlines():
        module, removed = line.partition("  ->  ")[0].split("  ", 1)
        source = (ROOT / "backup_scp" / module).read_text("utf-8")
        assert module in CORE
        assert removed in " ".join(one.strip() for one in source.splitlines()), line
