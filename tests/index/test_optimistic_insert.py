"""Optimistic insert on PostgreSQL: one round trip gives the same rows as the usual statements."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from backup_scp.index.connection.database import index_url
from backup_scp.index.schema.tables import study
from backup_scp.index.sql_index import SQLIndex
from backup_scp.index.writing.optimistic_insert import OptimisticInsert
from backup_scp.index.writing.pipeline import Statement, execute
from backup_scp.index.writing.row_writer import RowWriter
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.study_reindexer import StudyReindexer
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import AddResult
from tests.index.conftest import opened
from tests.index.examples import CR, rows, version
from tests.postgres import postgres_database
from tests.processes import LOOPBACK
from tests.relay import Relay


@pytest.fixture
def index(postgres_url):
    with opened(postgres_url) as index:
        yield index


def store(index, of):
    """Do what a C-STORE does with an index."""
    assert index.held(of.key, of.sha256, "") is None
    return index.add(of)


# ----------------------------------------------------------------------------------------------------------- how often


@pytest.fixture
def relay(index, postgres_url):
    url = index_url(postgres_url)
    with Relay((url.host or LOOPBACK, url.port or 5432)) as relay:
        yield relay


@pytest.fixture
def far_index(relay, postgres_url):
    with contextlib.closing(SQLIndex(str(index_url(postgres_url).set(host=LOOPBACK, port=relay.port)))) as far:
        for number in range(3):  # each statement is prepared in the trip that needs it first
            store(far, version(f"9.{number}.1", study=f"9.{number}"))
        yield far


def test_what_a_further_instance_of_a_series_costs(relay, far_index):
    """A look whether it is held, and a trip that enters it."""
    store(far_index, version("1.1"))
    store(far_index, version("1.2"))
    before = relay.trips
    assert store(far_index, version("1.3")) is AddResult.NEW
    assert relay.trips - before == 2


@pytest.mark.parametrize(
    ("further", "trips"),
    [
        (version("1.2", StudyDescription="comes late"), 2),
        (version("1.2", "1.2.3.5"), 4),  # the series is looked for, and its id drawn
        (version("1.2", study="1.2.4"), 5),  # the study is looked for, and both ids drawn
    ],
)
def test_what_a_further_series_or_study_costs(relay, far_index, further, trips):
    store(far_index, version("1.1"))
    before = relay.trips
    assert store(far_index, further) is AddResult.NEW
    assert relay.trips - before == trips


def test_what_is_known_to_be_no_new_instance_is_not_presumed_to_be_one(relay, far_index):
    """A study that is sent again with other bytes."""
    store(far_index, version("1.1"))
    store(far_index, version("1.1", minute=1, content="once"))
    before = relay.trips
    assert store(far_index, version("1.1", minute=2, content="twice")) is AddResult.VERSION
    assert relay.trips - before == 14  # a look for the UID and one for the version, then the long way


def test_threads_that_bring_one_study_need_no_long_way(index, transactions):
    with ThreadPoolExecutor(4) as pool:
        admissions = list(pool.map(lambda n: index.add(version(f"1.{n}")), range(40)))
    assert admissions == [AddResult.NEW] * 40
    assert transactions() == 0
    assert (index.holdings().studies, index.holdings().instances) == (1, 40)


# ------------------------------------------------------------------------------------------------- the same either way

LIFE = [
    version("1.1", PatientWeight="70.5", InstanceNumber="1"),
    version("1.2", minute=1, InstanceNumber="2"),
    version("1.3", minute=2, StudyDescription="comes late", PatientSize="1.8"),
    version("1.4", "1.2.3.5", minute=3, Modality="CR", sop_class=CR),
    version("1.5", "1.2.3.5", minute=4, Modality="OT"),  # the series says something else from now on
    version("1.6", minute=5),
    version("1.1", minute=6, content="corrected", PatientID="P2"),  # moves to another patient
    version("1.2", minute=7, content="of another", sender="DR2"),
    version("1.2", minute=1),  # the same bytes again
    version("1.2", study="1.2.4", minute=8),  # one SOP Instance UID in two studies
    version("1.7", study="", series="", minute=9, parsed=False),
    version("1.8", minute=-5, PatientName="DOE^EARLIER"),
]


def test_every_row_is_as_if_it_had_gone_the_long_way(index, postgres_url, postgres_server_url, monkeypatch):
    admissions = [index.add(each) for each in LIFE]
    monkeypatch.setattr(OptimisticInsert, "_insert_new", lambda *_: False)
    with postgres_database(postgres_server_url) as long_url, opened(long_url) as long:
        assert [long.add(each) for each in LIFE] == admissions
        assert rows(postgres_url) == rows(long_url)
    assert len(set(admissions)) == 4


def test_what_another_node_changed_is_counted(index, postgres_url, transactions):
    index.add(version("1.1"))
    with contextlib.closing(SQLIndex(postgres_url)) as other:
        other.add(version("1.2"))
    index.add(version("1.3"))
    assert transactions() == 1
    index.add(version("1.4"))
    assert transactions() == 1
    with index._database.reading() as connection:
        counted = connection.exec_driver_sql("SELECT number_of_study_related_instances, version_count FROM study").one()
    assert tuple(counted) == (4, 4)


@contextlib.contextmanager
def entering_elsewhere(index, of):
    """Hold the transaction of another node that enters a version."""
    with index._database.write_fast() as connection:
        VersionWriter(RowWriter(connection, index._database.dialect), StudyCache()).insert(VersionRows.of(of))
        yield


def wait_for_somebody_to_wait(url, kind="advisory"):
    """Wait until a transaction waits for a SOP Instance UID, or another lock; give its backend."""
    waiting = f"SELECT pid FROM pg_locks WHERE locktype = '{kind}' AND NOT granted"
    mine = f"{waiting} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        while not (found := connection.execute(mine).fetchone()):
            threading.Event().wait(0.005)
        return found[0]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_two_nodes_that_enter_one_uid_at_one_moment_see_the_clash(index, postgres_url, isolation):
    """The statement begins with the lock: what it looks at is what the other node has committed."""
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:  # whatever the server's own is
        connection.execute(
            f"ALTER DATABASE \"{connection.info.dbname}\" SET default_transaction_isolation = '{isolation}'"
        )
    index.close()  # what is open keeps what it had
    index.add(version("1.1", study="1.2.4"))
    with ThreadPoolExecutor(1) as pool:
        with entering_elsewhere(index, version("1.9")):
            later = pool.submit(index.add, version("1.9", study="1.2.4", minute=1))
            wait_for_somebody_to_wait(postgres_url)
        assert later.result() is AddResult.NEW
    (remark,) = index.remarks(10)
    assert remark.flags == ("clash",)


def test_nobody_judges_by_rows_that_are_being_entered_anew(index, postgres_url, transactions):
    """Otherwise a flag for an instance that is removed meanwhile would be lost, or both would deadlock."""
    held = version("1.9", study="1.2.4", minute=5)
    index.add(held)
    with ThreadPoolExecutor(1) as pool:
        with index._database.writing() as connection:
            index._database.dialect.lock_table(connection, study)
            later = pool.submit(store, index, version("1.9"))  # which was received before
            wait_for_somebody_to_wait(postgres_url, "relation")
            StudyReindexer(connection, index._database.dialect, lambda _: None).enter([VersionRows.of(held)])
        assert later.result() is AddResult.NEW
    assert transactions() == 1
    (remark,) = index.remarks(10)
    assert (remark.location, remark.flags) == (held.location, ("clash",))


# ---------------------------------------------------------------------------------------------------- lost connections


def test_a_server_that_ends_the_connection_in_the_middle_costs_nothing(index, postgres_url):
    index.add(version("1.1"))
    with ThreadPoolExecutor(1) as pool:
        with entering_elsewhere(index, version("1.9", study="1.2.4")):
            later = pool.submit(index.add, version("1.2", study="1.2.3"))
            assert later.result() is AddResult.NEW
            later = pool.submit(index.add, version("1.9", minute=1))
            backend = wait_for_somebody_to_wait(postgres_url)
            with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(%s)", [backend])
            while wait_for_somebody_to_wait(postgres_url) == backend:
                threading.Event().wait(0.005)
        assert later.result() is AddResult.NEW
    assert index.holdings().instances == 4


def test_what_was_committed_when_the_connection_was_lost_is_counted_once(relay, far_index):
    store(far_index, version("1.1"))
    before = far_index.holdings()
    relay.keeps_back = b"SELECT 1\0Z\0\0\0\5"  # the row that says it is written, and that it is committed
    assert far_index.add(version("1.2")) is AddResult.HELD
    assert not relay.keeps_back
    assert far_index.holdings().instances == before.instances + 1
    assert store(far_index, version("1.3")) is AddResult.NEW


def test_statements_that_the_server_has_forgotten_are_prepared_again(index, transactions):
    """As behind what pools connections: the next one is another server's."""
    index.add(version("1.1"))
    with index._database.autocommit() as direct:
        direct.connection.connection.driver_connection.pgconn.exec_(b"DEALLOCATE ALL")  # psycopg does not notice
    assert index.add(version("1.2")) is AddResult.NEW
    assert transactions() == 1
    assert index.add(version("1.3")) is AddResult.NEW
    assert transactions() == 1


# ------------------------------------------------------------------------------------------------------ one round trip


@pytest.fixture
def direct(index):
    with index._database.autocommit() as direct:
        direct.connection.exec_driver_sql("CREATE TABLE number (n bigint PRIMARY KEY)")
        yield direct


INSERT = Statement(b"INSERT INTO number VALUES (CAST($1 AS bigint))", ("n",))
SELECT = Statement(b"SELECT n FROM number WHERE n >= CAST($1 AS bigint)", ("least",))


def test_a_round_trip_is_one_transaction(direct):
    assert execute(direct, (INSERT, {"n": 1}), (INSERT, {"n": 2}), (SELECT, {"least": 1})) == 2
    with pytest.raises(sa.exc.IntegrityError):
        execute(direct, (INSERT, {"n": 3}), (INSERT, {"n": 1}), (SELECT, {"least": 1}))
    assert execute(direct, (SELECT, {"least": 1})) == 2


@pytest.mark.parametrize("numbers", [(1, 2), (1, 40_000), (1, 5_000_000_000)])
def test_a_statement_is_prepared_once_whatever_its_values(direct, numbers):
    for number in numbers:
        execute(direct, (INSERT, {"n": number}))
    prepared = direct.connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements").scalars()
    assert sum("INSERT INTO number" in text for text in prepared) == 1


def test_a_long_value_is_sent_piece_by_piece(direct):
    whole = Statement(b"SELECT 1 WHERE length($1::text) = $2::bigint", ("text", "length"))
    assert execute(direct, (whole, {"text": "x" * 30_000_000, "length": 30_000_000})) == 1


def test_what_was_interrupted_is_never_read_by_the_next(index, direct):
    with pytest.raises(KeyError):
        execute(direct, (INSERT, {"n": 1}), (SELECT, {}))
    assert execute(direct, (SELECT, {"least": 2})) == 0


def test_a_parameter_that_comes_twice_is_sent_once():
    number = sa.bindparam("n", type_=sa.BigInteger())
    made = Statement.of(sa.select(sa.literal_column("1")).where(sa.column("a") == number, sa.column("b") == number))
    assert made.names == ("n",)
