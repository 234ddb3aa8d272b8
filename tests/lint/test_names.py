"""A name means one thing: a search for it finds one class, one module."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "backup_scp"
MODULES = sorted(PACKAGE.rglob("*.py"))
# A command has the name of the use case that it calls, a port that of the records which keep its values.
MAY_REPEAT = ("cli", "ports")


def test_no_two_classes_have_one_name():
    places = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(PACKAGE).as_posix())
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_two_modules_have_one_name():
    places = defaultdict(list)
    for path in MODULES:
        within = path.relative_to(PACKAGE)
        if path.stem != "__init__" and within.parts[0] not in MAY_REPEAT:
            places[path.stem].append(within.as_posix())
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
