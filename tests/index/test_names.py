"""Infix names: trigrams narrow the search, and change no answer."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import uuid

import pytest
import sqlalchemy as sa

from backup_scp.dicom.attributes import Level
from backup_scp.dicom.query.information_model import WildCard
from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.schema.search_keys import folded
from backup_scp.index.schema.trigrams import trigrams
from benchmarks.query_index import plan
from tests.index.conftest import opened
from tests.index.examples import answers, filling, query, version

NAMES = (
    *("SMITH^JOHN", "GOLDSMITH^ANNA", "SMIT^HANS", 'O\'NEIL^"X"', "AND^OR NOT*", "a\0b^cde", "MÜLLER^JÖRG", "DOE"),
    *(
        "YAMADA^TAROU=山田^太郎=ヤマダ^タロウ",
        "HONG^GILDONG=洪^吉洞=홍^길동",
        "ИВАНОВ^ИВАН",
        "قباني^لنزار",
        "ใจดี^สมชาย",
        "",
    ),
    *("🩻🩻🩻🩻", "[ABC]^%_!", "N" * 600, "ẞTRAẞE^X", "AB"),
)
PATTERNS = (
    *("*SMITH*", "*smith", "?MITH*", "*MIT?^*", "*MI*TH*", "*S*", "*DOE^*", "D*OE^*", '*"X"*', "*O'NEIL*", "*OR NOT*"),
    *("*山田^太*", "*ヤマダ*", "*ADA*=*田^太*", "*ADA*=*吉*", "=*田^太郎*", "*ванов*", "*نزار*", "*จดี*", "*ULLER*"),
    *("*🩻🩻🩻*", "*ABC]*", "*%_!*", "*" + "N" * 500 + "*", "*STRASSE*", "*B^CDE*", "A?*", "*\u2400B^*", "*AND* *NOT?"),
)


def found(index, pattern: str) -> set[str]:
    return {a["StudyInstanceUID"] for a in answers(index, Level.STUDY, PatientName=WildCard(pattern))}


def enter_names(index) -> None:
    for number, name in enumerate(NAMES):
        index.add(version(f"1.{number}.1", f"1.{number}.2", f"1.{number}", PatientID=f"P{number}", PatientName=name))


def test_answers_are_those_of_a_scan(url, monkeypatch):
    with opened(url) as index:
        enter_names(index)
        narrowed = [found(index, pattern) for pattern in PATTERNS]
        monkeypatch.setattr("backup_scp.index.reading.matching.trigrams", lambda _: [])
        if not index._database.is_sqlite:
            with index._database.writing() as connection:
                connection.execute(sa.text("DROP INDEX ix_study_name"))
        assert [found(index, pattern) for pattern in PATTERNS] == narrowed
    assert sum(map(bool, narrowed)) > len(PATTERNS) // 2


def test_an_infix_name_is_found_at_every_level_and_retrieved(url):
    with opened(url) as index:
        enter_names(index)
        for level in Level:
            assert len(answers(index, level, PatientName=WildCard("*SMITH*"))) == 2
        assert len(index.retrieve(query(Level.STUDY, PatientName=WildCard("*SMITH*")))) == 2


def test_a_rebuild_and_an_instance_that_moves_keep_it_right(url):
    with opened(url) as index:
        enter_names(index)
        index.add(version("1.0.1", "1.0.2", "1.0", content="new", minute=1, PatientID="P9", PatientName="BLACKSMITH"))
        assert found(index, "*SMITH*") == {"1.0", "1.1"}
        assert found(index, "*MITH^JOHN*") == set()
        index.add(version("1.1.3", "1.1.2", "1.1", minute=2, PatientID="P1", PatientName="GOLD^ANNA"))
        assert found(index, "*SMITH*") == {"1.0"}
        with filling(index) as enter:
            enter(version(PatientName="NAILSMITH^X"))
        assert found(index, "*SMITH*") == {"1.2.3"}
        assert intact(index)


def intact(index) -> bool:
    """Let SQLite compare its trigrams with the names; it raises where they differ."""
    if index._database.is_sqlite:
        with index._database.writing() as connection:
            connection.execute(sa.text("INSERT INTO study_name(study_name, rank) VALUES ('integrity-check', 1)"))
    return True


def test_what_keeps_names_and_trigrams_equal_would_be_seen(tmp_path):
    with opened(f"sqlite:///{tmp_path}/index.db") as index:
        enter_names(index)
        with index._database.writing() as connection:
            connection.execute(sa.text("DROP TRIGGER study_name_change"))
            connection.execute(sa.text("UPDATE study SET patient_name_alphabetic = 'changed'"))
        with pytest.raises(IndexUnavailable):
            intact(index)


def test_names_come_and_go_at_random(url):
    chance = random.Random(7)
    with opened(url) as index:
        for minute in range(80):
            uid = str(chance.randrange(12))
            index.add(version(uid, "2", "3", content=str(minute), minute=minute, PatientID=f"P{chance.randrange(4)}",
                              PatientName=chance.choice(NAMES)))  # fmt: skip
        assert intact(index)


def test_the_plan_reads_no_other_names(tmp_path):
    url = f"sqlite:///{tmp_path}/index.db"
    with opened(url) as index:
        index.add(version())
        infix = plan(url, query(Level.STUDY, PatientName=WildCard("*SMITH*")))
        assert "SCAN study USING" not in "\n".join(infix)
        assert any("study_name VIRTUAL TABLE" in step for step in infix)


def test_postgresql_serves_an_infix_by_its_index(postgres_url):
    with opened(postgres_url) as index:
        enter_names(index)
        with index._database.writing() as connection:
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
            explained = connection.execute(
                sa.text("EXPLAIN SELECT id FROM study WHERE patient_name_alphabetic LIKE '%smith%' ESCAPE '!'")
            )
            assert "ix_study_name" in "\n".join(explained.scalars())


@contextlib.contextmanager
def owner_without_extensions(postgres_url):
    """Yield the URL of a role that may make tables in the database, and no extension."""
    role = "names_" + uuid.uuid4().hex[:12]
    with contextlib.closing(Database(postgres_url)) as database:
        with database.writing() as connection:
            connection.execute(sa.text(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'"))
            connection.execute(sa.text(f"GRANT ALL ON SCHEMA public TO {role}"))
        try:
            url = sa.engine.make_url(postgres_url).set(username=role, password=role)
            yield url.render_as_string(hide_password=False)
        finally:
            with database.writing() as connection:
                connection.execute(sa.text(f"DROP OWNED BY {role}"))
                connection.execute(sa.text(f"DROP ROLE {role}"))


def test_a_database_that_refuses_the_extension_is_used_without(postgres_url):
    with owner_without_extensions(postgres_url) as url, opened(url) as index:
        enter_names(index)
        assert found(index, "*SMITH*") == {"1.0", "1.1"}


def test_a_database_that_fails_in_another_way_is_not_migrated(postgres_url):
    with contextlib.closing(Database(postgres_url)) as database, database.writing() as connection:
        connection.execute(sa.text("CREATE TABLE ix_study_name ()"))  # its name is taken
    with pytest.raises(IndexUnavailable), opened(postgres_url):
        pass


def test_an_index_without_trigrams_reads_all_names(url):
    with opened(url) as index:
        enter_names(index)
        expected = [found(index, pattern) for pattern in PATTERNS]
    with contextlib.closing(Database(url)) as database, database.writing() as connection:
        for kind, names in (("TRIGGER", "enter remove change"), ("TABLE", "")):
            for name in names.split() or [""]:
                if database.is_sqlite:
                    connection.execute(sa.text(f"DROP {kind} {'_'.join(filter(None, ('study_name', name)))}"))
        if not database.is_sqlite:
            connection.execute(sa.text("DROP INDEX ix_study_name"))
    with opened(url) as index:
        assert [found(index, pattern) for pattern in PATTERNS] == expected
        index.add(version(PatientName="LOCKSMITH"))
        assert "1.2.3" in found(index, "*SMITH*")


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*smith*", ["smi", "ith"]),
        ("?abcdefgh", ["abc", "def", "fgh"]),
        ("smith*", []),
        ("sm*it*", []),
        ("sm*ith^*", ["ith", "th^"]),
        ("do^*", []),
        ("", []),
        ("*", []),
    ],
)
def test_trigrams_of_a_pattern(pattern, wanted):
    assert trigrams([pattern]) == wanted


def test_every_name_that_matches_has_the_trigrams():
    for pattern, name in itertools.product(PATTERNS, NAMES):
        if "=" in pattern or "=" in name:
            continue
        text, wild = folded(name), re.escape(folded(pattern)).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(wild, text, re.DOTALL):
            assert all(trigram in text for trigram in trigrams([folded(pattern)]))
