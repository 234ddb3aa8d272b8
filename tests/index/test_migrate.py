from __future__ import annotations

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from backup_scp.dicom.attributes import Level
from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection import migrate
from backup_scp.index.connection.database import Database
from backup_scp.index.schema.head import HEAD
from backup_scp.index.schema.stored_text import timestamp
from backup_scp.index.schema.tables import METADATA
from tests.index.examples import answers, at, one_item, requests, rows, version
from tests.selections import narrowed


@contextlib.contextmanager
def writing(url):
    with contextlib.closing(Database(url)) as database, database.writing() as connection:
        yield connection


def tables(url) -> set[str]:
    with writing(url) as connection:
        return set(sa.inspect(connection).get_table_names()) - {"alembic_version"}


def test_head_is_the_newest_migration():
    script = ScriptDirectory(str(migrate._folder()))
    assert script.get_heads() == [HEAD]


def test_the_result_is_equal_to_the_metadata(url):
    migrate.move_to(url, HEAD)
    with writing(url) as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": _is_in_metadata}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
        migrated = _details(connection)
    assert migrated == _details_of_metadata(url)


def _is_in_metadata(name, _kind=None, _parents=None):
    """Say so of all but the search for names, which ``_details`` compares."""
    return name is None or not name.startswith(("study_name", "ix_study_name"))


def _details(connection):
    """Give what compare_metadata does not look at: collations, partial indexes, names of constraints."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version'")
        return sorted((name, sorted(sql.replace("\n", " ").replace("\t", " ").split(", "))) for name, sql in rows if sql
                      and not sql.startswith("CREATE TABLE"))  # fmt: skip
    columns = connection.exec_driver_sql(
        "SELECT table_name, column_name, data_type, collation_name, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
    )
    indexes = connection.exec_driver_sql("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
                                         " AND tablename <> 'alembic_version'")  # fmt: skip
    return sorted(map(tuple, columns)), sorted(map(tuple, indexes))


def _details_of_metadata(url):
    migrate.move_to(url, "base")
    with writing(url) as connection:
        METADATA.create_all(connection)
        return _details(connection)


def test_tables_that_are_made_at_once_can_be_migrated(url):
    migrate.upgrade(url)
    made = _everything(url)
    migrate.move_to(url, "0008")
    migrate.move_to(url, "base")
    assert tables(url) == set()
    migrate.move_to(url, HEAD)
    assert made == _everything(url)


def _everything(url):
    with writing(url) as connection:
        return _details(connection), connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()


def test_each_step_goes_up_and_down(url):
    steps = [script.revision for script in ScriptDirectory(str(migrate._folder())).walk_revisions()][::-1]
    for revision in [*steps, *steps[-2::-1], "base", *steps]:
        migrate.move_to(url, revision)
    assert set(filter(_is_in_metadata, tables(url))) == set(METADATA.tables)
    migrate.move_to(url, "base")
    assert tables(url) == set()


def test_upgrade_says_whether_there_was_work(url):
    assert "db upgrade" in (migrate.pending(url) or "")
    assert migrate.upgrade(url) is True
    assert migrate.upgrade(url) is False
    assert migrate.pending(url) is None


def test_an_upgrade_keeps_what_is_held(url):
    from tests.index.conftest import opened

    with opened(url) as index:
        index.add(version())
    migrate.upgrade(url)
    with opened(url) as index:
        assert index.holdings().instances == 1


def test_series_entered_before_0004_know_of_no_requests(url):
    from tests.index.conftest import opened

    with opened(url) as index:
        index.add(version())
    migrate.move_to(url, "0003")
    with opened(url) as index:
        (found,) = answers(index, Level.SERIES, "RequestAttributesSequence")
        assert not found["RequestAttributesSequence"]
        assert answers(index, Level.SERIES, RequestAttributesSequence=one_item(AccessionNumber="A1")) == []
        index.add(version("1.9", minute=1, **requests({"AccessionNumber": "A1"})))  # a further image of this series
        assert len(answers(index, Level.SERIES, RequestAttributesSequence=one_item(AccessionNumber="A1"))) == 1


def test_a_study_id_too_long_for_a_database_index_is_found_after_0005(url):
    from tests.index.conftest import opened

    long = "".join(chr(0x4E00 + n * 37 % 0x5000) for n in range(1000))  # in no form that PostgreSQL could compress
    with opened(url) as index:
        index.add(version(StudyID="short"))
    migrate.move_to(url, "0004")
    with writing(url) as connection:
        connection.execute(sa.text("UPDATE study SET study_id = :text"), {"text": long})
    migrate.upgrade(url)
    with opened(url) as index:
        assert len(answers(index, Level.STUDY, StudyID=long)) == 1
        assert answers(index, Level.STUDY, StudyID=long[:-1]) == []


def test_rejections_before_0010_are_kept_with_what_was_asked_for(url):
    from tests.index.conftest import opened

    columns = "calling_ae_title, called_ae_title, address, reason, fix, last_at, count"
    now = timestamp(datetime.now(UTC))
    rejected = [
        ("A", "X", "192.0.2.1", "called AE title 'X' is not ours", "f", now, 3),
        ("A", "B", "192.0.2.1", "'A' at 192.0.2.1 may not query here", "f", now, 1),
        ("A", "B", "192.0.2.1", "Move Destination 'C1' is not configured here", "f", now, 1),
        ("A", "B", "192.0.2.1", "Move Destination 'C2' is not configured here", "f", now, 2),
        ("", "", "192.0.2.1", "no certificate", "f", now, 1),
    ]
    migrate.move_to(url, "0009")
    with writing(url) as connection:
        names = columns.split(", ")
        table = sa.table("rejection", *map(sa.column, names))
        connection.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rejected])
    migrate.upgrade(url)
    with opened(url) as index:
        found = sorted((r.service, r.count) for r in index.rejections(9))
    assert found == [("association", 3), ("query", 1), ("retrieve", 2), ("tls", 1)]
    migrate.move_to(url, "0009")
    with writing(url) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM rejection").scalar() == 4


def test_until_when_a_version_answered_is_known_after_0011(url):
    """As the rule was before: the next version of the sender whose version answers."""
    from tests.index.conftest import opened

    with opened(url) as index:
        for minute, sender in enumerate(["DR1", "OTHER", "DR1", "DR1", "OTHER"]):
            index.add(version(content=str(minute), minute=minute, sender=sender))
        index.add(version("1.9"))
    entered = rows(url)
    migrate.move_to(url, "0010")
    migrate.upgrade(url)
    assert rows(url) == entered
    with opened(url) as index:
        for minute, answering in enumerate("00233"):
            (held,) = index.select(narrowed(study_instance_uid="1.2.3", as_of=at(minute)))[:1]
            assert held.sha256 == version(content=answering).sha256


def test_times_that_had_no_key_before_0014_are_found(url):
    from tests.index.conftest import opened

    with opened(url) as index:
        index.add(
            version(StudyDate="20200101120000", StudyTime="1011.", ContentTime="101010.12345678", SeriesTime="odd")
        )
    migrate.move_to(url, "0013")
    keys = {
        "study": ("study_date_key", "study_time_key"),
        "series": ("series_time_key",),
        "instance": ("content_time_key",),
    }
    with writing(url) as connection:
        for table, columns in keys.items():
            for column in columns:
                connection.exec_driver_sql(f"UPDATE {table} SET {column} = ''")  # as they were
    migrate.upgrade(url)
    with writing(url) as connection:
        found = [connection.exec_driver_sql(f"SELECT {', '.join(c)} FROM {t}").one() for t, c in keys.items()]
    assert [tuple(row) for row in found] == [("20200101", "101100"), ("",), ("101010.123456",)]


def test_an_index_of_a_newer_program_is_left_alone(url):
    migrate.upgrade(url)
    with writing(url) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "newer version" in (migrate.pending(url) or "")
    with pytest.raises(IndexUnavailable, match="newer version"):
        migrate.upgrade(url)
    assert set(filter(_is_in_metadata, tables(url))) == set(METADATA.tables)


def test_nodes_that_start_at_once_migrate_one_after_the_other(url):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(_upgrade_in_a_process, [url] * 3))
    assert set(filter(_is_in_metadata, tables(url))) == set(METADATA.tables)


def _upgrade_in_a_process(url):
    code = "import sys; from backup_scp.index.connection.migrate import upgrade; upgrade(sys.argv[1])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, url], capture_output=True, text=True, check=False,
                          cwd=Path(migrate.__file__).parents[3])  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_start_without_work_does_not_load_alembic(tmp_path):
    url = f"sqlite:///{tmp_path}/deep/er/index.db"
    migrate.upgrade(url)
    code = "import sys; from backup_scp.index.connection.migrate import *; "
    code += "upgrade(sys.argv[1]); print('alembic' in sys.modules)"
    folder = Path(migrate.__file__).parents[3]
    assert subprocess.check_output([sys.executable, "-c", code, url], cwd=folder, text=True).strip() == "False"


def test_a_database_in_another_encoding_is_refused(postgres_url):
    with contextlib.closing(Database(postgres_url)) as database:
        engine = database._engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
            latin = postgres_url.rpartition("/")[0] + "/latin"
            try:
                with pytest.raises(IndexUnavailable, match="UTF8"):
                    migrate.upgrade(latin)
            finally:
                connection.exec_driver_sql("DROP DATABASE latin WITH (FORCE)")
