"""The table of `make mutants` names what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.core import CORE

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", CORE)
def test_a_module_of_the_core_and_its_tests_are_there(module):
    assert (ROOT / "backup_scp" / module).is_file()
    assert [name for name in CORE[module] if not (ROOT / name).exists()] == []
