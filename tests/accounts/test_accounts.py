"""What the database of users keeps, on each engine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from backup_scp.accounts import audit_records, failure_records
from backup_scp.accounts.accounts_tables import HEAD, METADATA, VERSION_TABLE
from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.errors import AccountsUnavailable, InvalidSelection
from backup_scp.index.connection import migrate
from backup_scp.index.connection.database import Database
from backup_scp.machine.program_folder import program_folder
from backup_scp.ports import EVERY_SITE, AuditEvent, AuditKind, Failures, LinkKind, OneTimeLink, Role, Session

NOW = datetime(2026, 3, 1, 8, 30, 0, 123456, UTC)
SEE = {"north": Role.SEE}


def session(digest: str, user_id: int, at=NOW, **more) -> Session:
    return Session(digest, user_id, at, at, **more)


def test_head_is_the_newest_migration_of_users():
    assert ScriptDirectory(str(program_folder("migrations") / "accounts")).get_heads() == [HEAD]


def test_the_migrated_tables_are_those_of_the_metadata(accounts):
    accounts.upgrade()
    with accounts._database.reading() as connection:
        of_ours = {"include_name": lambda name, kind, _: kind != "table" or name in METADATA.tables}
        options = {"compare_type": True, "version_table": VERSION_TABLE} | of_ours
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []


def test_the_tables_are_made_once_and_go_down_again(accounts):
    accounts.upgrade()
    assert accounts.upgrade() is False
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(program_folder("migrations") / "accounts"))
    with accounts._database.writing() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert set(sa.inspect(connection).get_table_names()) == {VERSION_TABLE}


def test_users_stand_beside_a_postgresql_index(postgres_url):
    migrate.upgrade(postgres_url)
    with contextlib.closing(SQLAccounts.on_server(Database(postgres_url, 8).engine)) as accounts:
        with pytest.raises(AccountsUnavailable, match="db upgrade"):
            accounts.users()
        assert accounts.upgrade() is True
        assert accounts.users() == []
    assert migrate.pending(postgres_url) is None


class TestUsers:
    def test_added_found_and_changed(self, accounts):
        assert not accounts.has_users()
        user = accounts.add_user("José Núñez", SEE, NOW)
        assert accounts.users() == [user]
        assert (user.has_password, user.is_administrator, user.added_at) == (False, False, NOW)
        accounts.set_password(user.id, "hash")
        accounts.set_roles(user.id, {EVERY_SITE: Role.ADMINISTER})
        found = accounts.credentials("  JOSÉ núñez")
        assert (found.password_hash, found.user.is_administrator) == ("hash", True)
        assert accounts.has_administrator()
        accounts.set_disabled(user.id, is_disabled=True)
        assert not accounts.has_administrator()
        accounts.remove_user(user.id)
        assert (accounts.credentials("José Núñez"), accounts.has_users()) == (None, False)

    def test_a_name_is_taken_whatever_its_case_and_form(self, accounts):
        accounts.add_user("Müller", SEE, NOW)
        with pytest.raises(InvalidSelection, match="already"):
            accounts.add_user("MU\u0308LLER", SEE, NOW)
        assert len(accounts.users()) == 1

    def test_a_role_of_a_later_version_gives_nothing(self, accounts):
        user = accounts.add_user("anna", SEE, NOW)
        with accounts._database.writing() as connection:
            connection.execute(sa.text("""UPDATE account SET roles = '{"north": "fly", "south": "see"}'"""))
        assert accounts.credentials_of(user.id).user.roles == {"south": Role.SEE}

    def test_a_code_counts_once_however_many_ask_at_once(self, accounts):
        user = accounts.add_user("anna", SEE, NOW)
        accounts.set_codes(user.id, "SECRET", ["one", "two"], step=10)
        assert accounts.credentials("anna").code_secret == "SECRET"
        with ThreadPoolExecutor(4) as threads:
            used = list(threads.map(lambda _: accounts.use_step(user.id, 11), range(4)))
            recovered = list(threads.map(lambda _: accounts.use_recovery_code(user.id, "one"), range(4)))
        assert (sorted(used), sorted(recovered)) == ([False, False, False, True],) * 2
        assert not accounts.use_step(user.id, 10)
        assert accounts.recovery_codes_left(user.id) == 1
        accounts.set_codes(user.id, "", [])
        assert (accounts.recovery_codes_left(user.id), accounts.users()[0].has_codes) == (0, False)


class TestSessions:
    @pytest.fixture
    def anna(self, accounts):
        return accounts.add_user("anna", SEE, NOW)

    def test_found_by_its_digest_until_it_ends(self, accounts, anna):
        begun = session("a", anna.id, address="192.0.2.9", agent="Firefox", is_complete=False)
        accounts.begin_session(begun)
        assert accounts.session("a") == (begun, anna)
        later = NOW + timedelta(minutes=5)
        accounts.touch_session("a", later)
        assert accounts.session("a")[0].seen_at == later
        accounts.begin_session(session("b", anna.id), instead_of="a")
        assert (accounts.session("a"), accounts.session("b")[1]) == (None, anna)
        accounts.end_session("b")
        assert accounts.session("b") is None

    @pytest.mark.parametrize(
        "change",
        [
            lambda accounts, user: accounts.set_disabled(user, is_disabled=True),
            lambda accounts, user: accounts.set_password(user, "new"),
            lambda accounts, user: accounts.remove_user(user),
            lambda accounts, user: accounts.end_sessions(user),
        ],
    )
    def test_all_end_with_what_they_rest_on(self, accounts, anna, change):
        other = accounts.add_user("ben", SEE, NOW)
        for digest, user in (("a", anna), ("b", anna), ("c", other)):
            accounts.begin_session(session(digest, user.id))
        change(accounts, anna.id)
        assert [accounts.session(digest) is None for digest in "abc"] == [True, True, False]

    def test_a_newer_hash_of_the_same_password_ends_none(self, accounts, anna):
        accounts.begin_session(session("a", anna.id))
        accounts.set_password(anna.id, "newer", ends_sessions=False)
        assert accounts.session("a") is not None

    def test_all_others_end(self, accounts, anna):
        for number, digest in enumerate("abc"):
            accounts.begin_session(session(digest, anna.id, NOW + timedelta(minutes=number)))
        assert [one.digest for one in accounts.sessions(anna.id)] == ["c", "b", "a"]
        accounts.end_sessions(anna.id, but="b")
        assert [one.digest for one in accounts.sessions(anna.id)] == ["b"]

    def test_old_ones_are_forgotten(self, accounts, anna):
        for number, digest in enumerate("abc"):
            accounts.begin_session(session(digest, anna.id, NOW + timedelta(hours=number)))
        accounts.touch_session("a", NOW + timedelta(hours=9))
        accounts.forget_sessions(NOW + timedelta(minutes=1), NOW + timedelta(hours=1, minutes=1))
        assert [one.digest for one in accounts.sessions(anna.id)] == ["c"]

    def test_a_link_works_once_and_replaces_its_like(self, accounts, anna):
        until = NOW + timedelta(hours=1)
        for digest in ("a", "b"):
            accounts.add_link(OneTimeLink(digest, LinkKind.PASSWORD, until, anna.id))
            accounts.add_link(OneTimeLink(digest + digest, LinkKind.FIRST, until))
        assert accounts.link("a") is None
        assert accounts.link("aa") is None
        assert accounts.link("b") == OneTimeLink("b", LinkKind.PASSWORD, until, anna.id)
        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(lambda _: accounts.use_link("b"), range(4))) == 1
        accounts.remove_links(LinkKind.FIRST)
        assert accounts.link("bb") is None


class TestAudit:
    def test_the_newest_first_and_by_person(self, accounts):
        events = [
            AuditEvent(NOW, AuditKind.LOGIN, "anna", address="192.0.2.9"),
            AuditEvent(NOW, AuditKind.USER_RESET, "anna", "ben"),
            AuditEvent(NOW, "what a later version notes", "carl"),
        ]
        for event in events:
            accounts.record(event)
        assert accounts.events(10) == events[::-1]
        assert accounts.events(1) == events[2:]
        assert accounts.events(10, [AuditKind.LOGIN]) == events[:1]
        assert accounts.events(10, who="ben") == events[1:2]
        assert accounts.has_logged_in("anna", "192.0.2.9", NOW - timedelta(days=1))
        assert not accounts.has_logged_in("anna", "192.0.2.9", NOW)
        assert not accounts.has_logged_in("anna", "192.0.2.8", NOW - timedelta(days=1))

    def test_what_a_stranger_typed_does_no_harm(self, accounts):
        accounts.record(AuditEvent(NOW, AuditKind.LOGIN_FAILED, "x\0\x1b[2J\ud800" * 1000))
        (event,) = accounts.events(1)
        assert len(event.who) == audit_records._LONGEST
        assert event.who.isprintable()

    def test_it_does_not_grow_without_end(self, accounts, monkeypatch):
        monkeypatch.setattr(audit_records, "MOST", 3)
        for number in range(5):
            accounts.record(AuditEvent(NOW, AuditKind.LOGIN_FAILED, str(number)))
        assert [event.who for event in accounts.events(10)] == ["4", "3", "2"]


class TestFailures:
    def test_counted_once_however_many_count_at_once(self, accounts):
        before = None
        for number in (1, 2):
            after = Failures(number, NOW + timedelta(seconds=number))

            def count(_, before=before, after=after) -> bool:
                return accounts.count_failure("name", "k", before, after)

            with ThreadPoolExecutor(4) as threads:
                assert sorted(threads.map(count, range(4))) == [False, False, False, True]
            assert accounts.failures("k") == after
            before = after
        accounts.forget_failures("k")
        assert accounts.failures("k") is None

    def test_those_of_long_ago_are_forgotten(self, accounts, monkeypatch):
        monkeypatch.setattr(failure_records, "MOST", 2)
        accounts.count_failure("address", "other", None, Failures(1, NOW))
        for number in range(4):
            accounts.count_failure("name", str(number), None, Failures(1, NOW + timedelta(seconds=number)))
        assert [number for number in range(4) if accounts.failures(str(number))] == [2, 3]
        assert accounts.failures("other")


class TestTheFile:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "data" / "accounts.sqlite"

    def test_nobody_else_reads_it_and_each_commit_waits_for_the_disk(self, path):
        with contextlib.closing(SQLAccounts.in_file(path)) as accounts:
            accounts.add_user("anna", SEE, NOW)
            with accounts._database.reading() as connection:
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            accounts.count_failure("name", "k", None, Failures(1, NOW))  # waits for no disk; the next commit does
            with accounts._database.reading() as connection:
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        if os.name != "nt":
            assert path.stat().st_mode & 0o077 == 0

    def test_another_process_sees_a_change_at_once(self, path):
        with contextlib.closing(SQLAccounts.in_file(path)) as one, contextlib.closing(SQLAccounts.in_file(path)) as two:
            user = one.add_user("anna", SEE, NOW)
            one.begin_session(session("a", user.id))
            assert two.session("a") is not None
            two.set_disabled(user.id, is_disabled=True)
            assert one.session("a") is None

    def test_a_damaged_one_says_so_without_its_content(self, path):
        path.parent.mkdir()
        path.write_bytes(b"SELECT secret" * 1000)
        with contextlib.closing(SQLAccounts.in_file(path)) as accounts:
            with pytest.raises(AccountsUnavailable, match="damaged") as raised:
                accounts.users()
            assert "secret" not in str(raised.value)

    def test_one_of_a_later_version_is_left_alone(self, path):
        with contextlib.closing(SQLAccounts.in_file(path)) as accounts:
            accounts.users()
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            file.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        newer = pytest.raises(AccountsUnavailable, match="newer version")
        with contextlib.closing(SQLAccounts.in_file(path)) as accounts, newer:
            accounts.users()
