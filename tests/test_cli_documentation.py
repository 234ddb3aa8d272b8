"""docs/cli.md equals the code, and describes everything."""

from __future__ import annotations

import re

from backup_scp.cli.failure import EXIT_CODES
from backup_scp.cli.results import RESULTS
from docs import cli
from tests.processes import ROOT

TEXT = (ROOT / "docs" / "cli.md").read_text("utf-8")


def test_it_is_what_the_code_says():
    assert cli.document() == TEXT, "docs/cli.md is out of date; run: python -m docs.cli"


def test_every_command_has_its_section_and_what_it_prints_as_json():
    names = [name for name, _ in cli.commands()]
    assert re.findall(r"(?m)^## backup-scp (.+)$", TEXT) == names
    assert set(names) == {*RESULTS, "find"}
    for name, command in cli.commands():
        assert any("--json" in parameter.opts for parameter in command.params), name


def test_every_field_and_every_option_is_explained():
    """Where this fails: write the field into the ``Attributes`` of its class, or the help of the option."""
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row for row in rows if row.endswith("|  |")] == []


def test_what_it_refers_to_is_there():
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^#+ (.+)$", TEXT)}
    targets = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert targets
    assert targets <= anchors


def test_the_exit_codes_are_in_one_table():
    assert re.findall(r"(?m)^\| (\d+) \|", TEXT) == [str(code) for code in EXIT_CODES]
