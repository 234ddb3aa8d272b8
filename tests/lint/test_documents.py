"""Links and file names in the documents lead to existing files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lint.__main__ import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("findings/*.md")]
SOURCES = [
    *ROOT.glob("backup_scp/**/*.py"),
    *ROOT.glob("tests/**/*.py"),
    *ROOT.glob("docs/*.py"),
    *ROOT.glob("migrations/**/*.py"),
    *ROOT.glob("benchmarks/*.py"),
]
MODULES = {f"/{path.relative_to(ROOT).as_posix()}" for path in SOURCES}
# The reader of CONTRIBUTING.md writes these.
EXERCISES = {"backup_scp/copies/tar_file.py", "tests/copies/test_tar_file.py"}


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", document.read_text("utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_its_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if "://" in target or "template" in document.name:
            continue
        file, _, anchor = target.partition("#")
        found = (document.parent / file) if file else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_modules_that_it_names_exist(document):
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", document.read_text("utf-8"))) - EXERCISES
    assert {name for name in named if not any(module.endswith(f"/{name}") for module in MODULES)} == set()
