"""The files for Prometheus and Grafana in conf/, and promtool."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.processes import ROOT
from tests.unpacked_packages import unpacked

RULES = ROOT / "conf" / "prometheus-rules.yml"
DASHBOARD = ROOT / "conf" / "grafana-dashboard.json"

_NAME = re.compile(r"\bbackup_scp_\w+")


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    """Run promtool, which must be content; return what it says."""
    package = unpacked("prometheus")
    argv = [package.program("promtool"), *map(str, arguments)]
    done = subprocess.run(
        argv, input=given, capture_output=True, text=True, check=False, timeout=100, env=package.environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    return list(json.loads(DASHBOARD.read_text())["panels"])


def dashboard_expressions() -> list[str]:
    """Return the expression of each panel, and those that ask for the values of variables."""
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    asked = [found for each in variables for found in re.findall(r"label_values\((\w+),", each.get("definition", ""))]
    return asked + [target["expr"] for panel in panels() for target in panel["targets"]]


def used_names() -> set[str]:
    """Return the metrics that the rules and the dashboard use."""
    return set(_NAME.findall("\n".join([*_lines_of_rules(), *dashboard_expressions()])))


def _lines_of_rules() -> Iterator[str]:
    for line in RULES.read_text().splitlines():
        yield line.partition("#")[0]
