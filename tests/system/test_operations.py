"""docs/operations.md is true: its links lead somewhere, its commands and options exist."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT, clean_environment

TEXT = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = re.findall(r"(?:^|[`$(/ ])backup-scp ((?:index )?[a-z]+)((?: +(?:--)?[\w./-]+)*)", TEXT, re.MULTILINE)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_its_links_lead_somewhere():
    headings = {f"#{anchor(heading)}" for heading in re.findall(r"^## (.*)", TEXT, re.MULTILINE)}
    linked = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert headings == {target for target in linked if target.startswith("#")}
    for target in linked:
        assert target.startswith("#") or (ROOT / "docs" / target.partition("#")[0]).exists(), target


def test_the_readme_leads_to_its_answers():
    named = re.findall(r"docs/operations\.md#([\w-]+)", (ROOT / "README.md").read_text())
    assert named
    assert set(named) <= {anchor(heading) for heading in re.findall(r"^## (.*)", TEXT, re.MULTILINE)}


@pytest.mark.parametrize(
    "command", ["status", "check", "find", "restore", "verify", "rebuild", "index backup", "serve"]
)
def test_its_commands_and_their_options_exist(command):
    named = {option for name, rest in COMMANDS if name == command for option in re.findall(r"--[a-z-]+", rest)}
    said = subprocess.run(
        [sys.executable, "-m", "backup_scp", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(PYTHONPATH=str(ROOT), COLUMNS="200"),
    ).stdout
    assert [option for option in named if option not in said] == []
