"""Share links in the database of users, on each engine."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from backup_scp.accounts import share_records
from backup_scp.accounts.accounts_tables import share_link
from backup_scp.ports import SEES_ALL, SEES_NOTHING, ShareLink, ShareSession, SiteScope

NOW = datetime(2026, 3, 1, 8, 30, 0, 123456, UTC)
LATER = NOW + timedelta(hours=1)


def link(digest: str = "a", site: str = "north", study: str = "1.2.3", **more) -> ShareLink:
    until = NOW + timedelta(days=30)
    return ShareLink(0, digest, "hash", study, site, True, "maria", "Dr. Müller", NOW, until, **more)


def test_found_by_its_digest_alone(accounts):
    stored = accounts.add_share(link())
    assert stored == replace(link(), number=stored.number)
    assert stored.number > 0
    assert accounts.share("a") == accounts.share_numbered(stored.number) == stored
    assert (accounts.share("b"), accounts.share_numbered(stored.number + 1)) == (None, None)


class TestOpened:
    def test_a_session_is_of_its_link_alone(self, accounts):
        one, other = accounts.add_share(link("a")), accounts.add_share(link("b"))
        session = ShareSession("s", LATER)
        accounts.open_share(one.number, session, NOW)
        opened = replace(one, opened=1, opened_at=NOW)
        assert accounts.share_of_session("s", "a") == (opened, session)
        assert (accounts.share_of_session("s", "b"), accounts.share_of_session("x", "a")) == (None, None)
        assert accounts.share("b") == other
        accounts.end_share_session("s")
        assert accounts.share_of_session("s", "a") is None

    def test_those_that_have_ended_are_removed(self, accounts):
        number = accounts.add_share(link()).number
        accounts.open_share(number, ShareSession("old", LATER), NOW)
        accounts.open_share(number, ShareSession("new", LATER + timedelta(hours=2)), LATER + timedelta(seconds=1))
        assert accounts.share_of_session("old", "a") is None
        assert accounts.share_of_session("new", "a")[0].opened == 2

    def test_a_revoked_link_ends_its_sessions_and_stays_revoked(self, accounts):
        number = accounts.add_share(link()).number
        accounts.open_share(number, ShareSession("s", LATER), NOW)
        accounts.revoke_share(number, LATER)
        accounts.revoke_share(number, LATER + timedelta(days=1))
        assert accounts.share_of_session("s", "a") is None
        assert accounts.share("a").revoked_at == LATER


class TestFailures:
    def test_attempts_at_once_are_no_way_round_the_limit(self, accounts):
        number = accounts.add_share(link()).number
        with ThreadPoolExecutor(4) as threads:
            begun = list(threads.map(lambda _: accounts.begin_try(number, 3), range(12)))
        assert begun.count(True) == 3
        assert accounts.share("a").failures == 3

    def test_forgotten_when_opened_or_unlocked(self, accounts):
        number = accounts.add_share(link()).number
        assert accounts.begin_try(number, 2)
        accounts.open_share(number, ShareSession("s", LATER), NOW)
        assert accounts.share("a").failures == 0
        assert [accounts.begin_try(number, 2) for _ in range(3)] == [True, True, False]
        accounts.unlock_share(number)
        assert accounts.begin_try(number, 2)


@pytest.mark.parametrize(
    ("scope", "more", "found"),
    [
        (SEES_ALL, {}, "dcba"),
        (SiteScope.of(["north"]), {}, "ca"),
        (SiteScope.of(["", "south"]), {}, "db"),
        (SEES_NOTHING, {}, ""),
        (SEES_ALL, {"study_instance_uid": "1.2.3"}, "ba"),
        (SiteScope.of(["north"]), {"study_instance_uid": "1.2.3"}, "a"),
    ],
)
def test_listed_for_some_clinics(accounts, scope, more, found):
    for digest, site, study in (("a", "north", "1.2.3"), ("b", "south", "1.2.3"), ("c", "north", "9"), ("d", "", "9")):
        accounts.add_share(link(digest, site, study))
    assert "".join(each.digest for each in accounts.shares(scope, 10, **more)) == found


def test_listed_in_parts(accounts):
    numbers = [accounts.add_share(link(str(n))).number for n in range(5)]
    first = [each.number for each in accounts.shares(SEES_ALL, 2)]
    assert first == numbers[:2:-1]
    assert [each.number for each in accounts.shares(SEES_ALL, 9, before=first[-1])] == numbers[2::-1]


def test_an_opening_is_one_look_into_an_index_with_100_000_links(accounts):
    """The plan, on each engine: no statement of an opening reads the table from its beginning."""
    row = {
        "pin_hash": "hash", "study_instance_uid": "1.2.3", "site": "", "may_save": 1, "made_by": "maria",
        "made_for": "x", "made_at": NOW, "until": LATER, "opened": 0, "failures": 0,
    }  # fmt: skip
    accounts.add_share(link("first"))
    with accounts._database.writing() as connection:
        connection.execute(sa.insert(share_link), [row | {"digest": f"{n:064x}"} for n in range(100_000)])
    with accounts._database.writing() as connection:
        connection.execute(sa.text("ANALYZE"))
        plans = [plan_of(connection, statement) for statement in (share_records.BY_DIGEST, share_records.BY_SESSION)]
    assert not [plan for plan in plans if re.search("Seq Scan on share_link|SCAN", plan)]
    assert re.search(r"uq_share_link_digest|SEARCH share_link USING INDEX \w+ \(digest=\?\)", plans[0])


def plan_of(connection: sa.Connection, statement: sa.Select) -> str:
    """Ask the engine how it would answer."""
    literal = statement.params({"wanted": "a", "of_link": "b"}).compile(
        dialect=connection.dialect, compile_kwargs={"literal_binds": True}
    )
    explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    return "\n".join(str(tuple(row)) for row in connection.execute(sa.text(f"{explain} {literal}")))
