"""docs/conformance-statement.md equals the code, in the order of PS3.2 Annex N; `system/` tests a node against it."""

from __future__ import annotations

import re

from docs import conformance_statement
from tests import statement
from tests.processes import ROOT

SECTIONS = [
    "1 Overview",
    "2 Table of contents",
    "3 Introduction",
    "4 Implementation model",
    "5 Service and interoperability description",
    "6 Configuration",
    "7 Network and media communication details",
    "8 Security",
    "Annex A",
]
HEADINGS = re.findall(r"(?m)^#{2,6} (.+)$", statement.text())


def test_it_is_what_the_code_says():
    assert statement.text() == conformance_statement.statement(), (
        "docs/conformance-statement.md is out of date; run: python -m docs.conformance_statement"
    )


def test_its_sections_are_those_of_annex_n():
    assert re.findall(r"(?m)^## (.+)$", statement.text()) == SECTIONS


def test_sections_and_tables_stand_in_the_order_of_their_numbers():
    places = [tuple(map(int, number.split("."))) for number in re.findall(r"(?m)^#+ ([\d.]+) ", statement.text())]
    tables = [tuple(map(int, number.split("-"))) for number in statement.numbers()]

    assert places == sorted(set(places))
    assert tables == sorted(set(tables))


def test_what_it_refers_to_exists():
    text = statement.text()
    sections = {heading.partition(" ")[0] for heading in HEADINGS}
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADINGS}

    assert set(re.findall(r"(?<!\*\*)Tables? (\d-\d+)", text)) <= set(statement.numbers())
    assert set(re.findall(r"[Ss]ections? (\d[.\d]*\d)", text)) <= sections
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert (ROOT / "docs" / file).exists(), target
        assert not anchor or anchor in anchors, target


def test_nothing_of_the_template_is_left():
    assert not re.search(r"\{\{|\}\}|\[\[contents", statement.text())
