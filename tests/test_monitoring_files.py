"""What conf/ has for Prometheus and Grafana: promtool accepts it, and each alarm of the node has an alert there."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from backup_scp.node.health import alarm_rules
from tests.monitoring import DASHBOARD, RULES, dashboard_expressions, panels, promtool
from tests.processes import ROOT

BY_NUMBER = {
    ("storing", ""): "backup_scp_storing == 0",
    ("damage", ""): "backup_scp_damaged > 0",
    ("index", ""): "backup_scp_index_up == 0",
    ("disk", "filling"): "backup_scp_disk_full_timestamp_seconds",
    ("drill", "failed"): "backup_scp_drill_passed == 0",
}
"""Alarms whose rule takes a number, and not the finding."""

KINDS = sorted({*alarm_rules._RULES, *alarm_rules._TOLD_OTHERWISE, ("something new", "")})
NOTES = alarm_rules._TOLD_NOTES


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", RULES.read_text())


def test_promtool_accepts_the_rules():
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_the_rules_say_what_they_should():
    promtool("test", "rules", ROOT / "tests" / "prometheus_rules_test.yml")


def test_each_alarm_of_the_node_is_one_alert(tmp_path):
    """Each kind of finding that the node would tell fires exactly one rule, on its own."""
    by_finding = [kind for kind in KINDS if kind not in BY_NUMBER]
    series, expected = [], []
    for what, aspect in by_finding:
        severity = "note" if (what, aspect) in NOTES else "act"
        labels = f'{{severity="{severity}", what="{what}", aspect="{aspect}", subject="x"}}'
        series.append({"series": f"backup_scp_findings{labels}", "values": "1x200"})
        named = f', aspect="{aspect}"' if aspect else ""  # an empty label is none
        expected.append({"labels": f'{{what="{what}"{named}}}', "value": 1})
    wanted = {
        "expr": 'count by (what, aspect) (ALERTS{alertstate="firing"})',
        "eval_time": "3h",
        "exp_samples": expected,
    }
    file = tmp_path / "test.yml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [wanted]}
    file.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": [test]})
    )  # JSON is YAML
    promtool("test", "rules", file)


def test_the_others_have_a_rule_with_a_number():
    rules = RULES.read_text()
    assert [expression for expression in BY_NUMBER.values() if expression not in rules] == []
    assert set(BY_NUMBER) <= {*alarm_rules._RULES, *alarm_rules._TOLD_OTHERWISE}


def test_each_alert_is_explained():
    rows = re.findall(r"^\| `(BackupSCP\w+)` \|", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    assert rows == alerts()


def test_promtool_can_read_each_expression_of_the_dashboard(tmp_path):
    expressions = [expression.replace("$instance", ".*") for expression in dashboard_expressions()]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(expressions)} rules found" in promtool("check", "rules", file)


class TestDashboard:
    def test_every_panel_asks_the_chosen_server_and_node(self):
        for panel in panels():
            for part in (panel, *panel["targets"]):
                assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
            assert all("$instance" in target["expr"] for target in panel["targets"]), panel["title"]
        names = [variable["name"] for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]]
        assert names == ["datasource", "instance"]

    def test_panels_stand_beside_each_other(self):
        assert len({panel["id"] for panel in panels()}) == len(panels())
        places = [panel["gridPos"] for panel in panels()]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for one, other in itertools.combinations(places, 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or above, (one, other)

    @pytest.mark.parametrize("kind", ["stat", "bargauge", "table"])
    def test_what_shows_the_present_asks_for_it_alone(self, kind):
        shown = [panel for panel in panels() if panel["type"] == kind]
        assert shown
        assert all(target["instant"] for panel in shown for target in panel["targets"])
