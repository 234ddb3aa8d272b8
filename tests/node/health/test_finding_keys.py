"""A finding keeps its key while its sentence changes, and no two of one moment share theirs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from backup_scp.node.health.copy_findings import copies
from backup_scp.node.settings import CopySettings, Settings
from backup_scp.ports import CopyState, CopyTrouble
from backup_scp.watch.forecast import Forecast
from tests.node.health.conftest import HOLDINGS, NOW, WELL
from tests.node.health.test_diagnosis import ACT, NOTES


def keys(listed):
    return [each.key for each in listed]


def test_each_kind_of_finding_has_a_key_of_its_own(found):
    given: list[Any] = [facts for facts, *_ in (*ACT.values(), *NOTES.values())]
    several = {key for facts in given for key in keys(found(**facts))}
    assert len(several) >= len(ACT) + len(NOTES) - 3  # the clock of the future and a rebuild stand there twice


def test_counts_and_days_change_the_sentence_and_not_the_key(found):
    for first, then in (
        ({"holdings": replace(HOLDINGS, damaged=1)}, {"holdings": replace(HOLDINGS, damaged=70)}),
        ({"forecast": Forecast(30, 1e9, NOW.date())}, {"forecast": Forecast(30, 2e9, NOW.date() + timedelta(days=9))}),
    ):
        before, after = found(known=first), found(known=then)
        assert [each.sentence for each in before] != [each.sentence for each in after]
        assert keys(before) == keys(after)


def test_two_copies_in_the_same_trouble_are_two(found):
    two = tuple(CopySettings(name, f"s3://{name}") for name in ("near", "far"))
    settings = Settings(home=WELL.settings.home, copy=two)
    states = [
        CopyState(each.name, "", seen_at=NOW, trouble="It is off", trouble_kind=CopyTrouble.FAULT) for each in two
    ]
    assert keys(copies(settings, states, NOW)) == [("copies", "trouble", "near"), ("copies", "trouble", "far")]
