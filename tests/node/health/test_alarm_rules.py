"""Which findings are told, as what, and that no rule is for a finding that does not exist."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from backup_scp.node.health import alarm_rules
from backup_scp.node.health.alarm_rules import ALL_KINDS, INDEX_KINDS, conditions
from backup_scp.node.health.finding import Finding, Severity
from tests.processes import ROOT


def finding(what: str, aspect: str = "", severity: Severity = Severity.ACT, **more) -> Finding:
    return Finding(what, severity, f"{what} {aspect}", "do it", aspect=aspect, **more)


def test_what_a_person_must_do_is_told_also_without_a_rule_of_its_own():
    (told,) = conditions([finding("new kind", subject="x")]).conditions
    assert told.key == ("new kind", "", "x")
    assert told.grace == timedelta(minutes=15)
    assert told.fix == "do it"


def test_of_notes_only_those_that_need_a_person():
    notes = [finding("flagged"), finding("copies", "behind"), finding("drill", "overdue"), finding("web")]
    told = conditions([replace(each, severity=Severity.NOTE) for each in notes]).conditions
    assert [each.key[:2] for each in told] == [("copies", "behind"), ("drill", "overdue")]


def test_a_failed_drill_is_told_as_a_drill():
    assert conditions([finding("drill", "failed")]).conditions == ()


def test_what_is_right_is_not_told():
    assert conditions([finding("storing", severity=Severity.OK)]).conditions == ()


def test_unknown_callers_are_one_and_known_ones_are_not():
    callers = [finding("refused", "stranger", subject=f"SCAN{n} at 192.0.2.{n}") for n in range(5)]
    known = [finding("refused", "images", subject=f"DR{n} at 192.0.2.{n}") for n in range(2)]
    told = conditions([*callers, *known]).conditions
    assert [each.key for each in told] == [
        *(("refused", "images", f"DR{n} at 192.0.2.{n}") for n in range(2)),
        ("refused", "stranger", ""),
    ]
    assert told[-1].sentence == "refused stranger (and 4 others)"


def test_two_findings_of_one_key_are_one_alarm():
    assert len(conditions([finding("damage"), finding("damage")]).conditions) == 1


def test_the_subject_stands_in_what_is_said_at_the_end():
    (told,) = conditions([finding("copies", "away", subject="nas")]).conditions
    assert told.ended == "copy nas is here again"


def test_without_the_index_its_kinds_are_unknown_and_the_nodes_are_not():
    assert {"copies", "damage", "storing", "disk", "drill", "commitment", "refused"} <= INDEX_KINDS
    assert {"node", "maintenance", "certificate", "index"} <= ALL_KINDS - INDEX_KINDS


def test_each_rule_is_for_words_that_a_finding_has():
    """A finding that is renamed must take its rule along."""
    folder = ROOT / "backup_scp" / "node" / "health"
    text = "".join(file.read_text() for file in folder.glob("*.py") if file.name != "alarm_rules.py")
    for what, aspect in alarm_rules._RULES:
        assert f'"{what}"' in text, what
        assert not aspect or f'"{aspect}"' in text, (what, aspect)
