"""Rows in the database, on both engines."""

from __future__ import annotations

import contextlib
import random

import pytest

from backup_scp.dicom.attributes import Level
from backup_scp.dicom.query.information_model import Range, SingleValue, UIDList, WildCard
from backup_scp.index.sql_index import SQLIndex
from tests.index.conftest import opened
from tests.index.examples import at, filling, query, rows, version
from tests.selections import narrowed


def arrivals():
    """Give an archive's life: studies, re-sends, corrections, clashes, what cannot be read."""
    entered = [_first(n) for n in range(60)]
    entered += [_correction(n) for n in range(0, 60, 5)]
    entered += [_of(n, content="x", minute=130 + n, sender="OTHER") for n in range(0, 60, 7)]
    entered.append(version("1.1", "8.8", "9.9", minute=300))
    entered += [version(f"0.{n}", "", "", minute=310 + n, parsed=False) for n in range(3)]
    entered.append(
        version("1.59", "2.3", "3.3", content="odd\0", minute=320, sender="DR1", PatientID="P3", PatientName="a\0b")
    )
    return entered


def _of(n, **facts):
    return version(f"1.{n}", f"2.{n % 7}", f"3.{n % 4}", **facts)


def _first(n):
    sender, modality = (("DR0", "DX"), ("DR1", "CR"))[n % 2]
    facts = {"StudyDescription": f"d{n}" if n % 3 else "", "SeriesDescription": f"s{n}" if n % 5 else ""}
    facts |= {"StudyTime": f"{n % 24:02}0000", "ImageType": f"T\\{n}", "InstanceNumber": str(n), "Modality": modality}
    return _of(n, minute=n, sender=sender, PatientID=f"P{n % 4}", **facts)


def _correction(n):
    patient = f"P{(n + n % 2) % 4}"
    return _of(n, content="c", minute=60 + n, sender=f"DR{n % 2}", PatientID=patient, Modality="DX", sop_class="1.2.9")


def test_a_rebuild_gives_the_same_rows(url):
    with opened(url) as index:
        for each in arrivals():
            index.add(each)
        incremental = rows(url)
        with filling(index) as enter:
            for each in arrivals():
                enter(each)
        assert rows(url) == incremental
        assert [len(incremental[name]) for name in ("study", "series", "instance", "version")] > [4, 7, 60, 60]


def test_new_instances_give_the_same_rows_in_any_order(url):
    """Several Associations send one study: versions are not always added in the order of arrival."""
    new = [each for each in arrivals() if each.location not in {v.location for v in arrivals()[60:]}]
    with opened(url) as index:
        with filling(index) as enter:
            for each in new:
                enter(each)
        in_order = rows(url)
        random.Random(3).shuffle(new)
        for each in new:
            index.add(each)
        with filling(index) as enter:
            for each in new:
                enter(each)
        assert rows(url) == in_order


def test_both_engines_hold_the_same_rows(tmp_path, postgres_url):
    found = []
    for url in (f"sqlite:///{tmp_path}/index.db", postgres_url):
        with opened(url) as index, filling(index) as enter:
            for each in arrivals():
                enter(each)
        found.append(rows(url))
    assert found[0] == found[1]


ONE_HIT = [
    (Level.STUDY, {"PatientID": SingleValue("P1")}, "ix_study_patient_id"),
    (Level.STUDY, {"PatientID": WildCard("P12*")}, "ix_study_patient_id"),
    (Level.STUDY, {"AccessionNumber": SingleValue("A1")}, "ix_study_accession_number"),
    (Level.STUDY, {"StudyInstanceUID": SingleValue("3.1")}, "uq_study_entity"),
    (Level.STUDY, {"StudyInstanceUID": UIDList(("3.1", "3.2"))}, "uq_study_entity"),
    (Level.STUDY, {"PatientName": WildCard("smith*")}, "ix_study_patient_name_alphabetic"),
    (Level.STUDY, {"PatientName": WildCard("smith^j*n")}, "ix_study_patient_name_phonetic"),
    (Level.STUDY, {"StudyDate": Range("20240101", "20240107")}, "ix_study_study_date_key_id"),
    (Level.SERIES, {"SeriesInstanceUID": SingleValue("2.1")}, "ix_series_series_instance_uid"),
    (Level.SERIES, {"StudyInstanceUID": SingleValue("3.1")}, "uq_series_study_id_series_instance_uid"),
    (Level.IMAGE, {"SOPInstanceUID": UIDList(("1.1", "1.2"))}, "uq_instance_sop_instance_uid_series_id"),
    (Level.IMAGE, {"SeriesInstanceUID": SingleValue("2.1")}, "ix_instance_series_id"),
    (Level.PATIENT, {"PatientID": SingleValue("P1")}, "ix_study_patient_id"),
]


@pytest.fixture(scope="module")
def filled(shared_index: SQLIndex) -> SQLIndex:
    with filling(shared_index) as enter:
        for n in range(30):
            enter(version(f"1.{n}", f"2.{n}", f"3.{n}", minute=n, PatientID=f"P{n}", AccessionNumber=f"A{n}",
                          PatientName=f"N{n}^J", StudyDate=f"20{n % 30:02}{n % 12 + 1:02}{n % 28 + 1:02}"))  # fmt: skip
    return shared_index


AS_OF_ONE = [
    ({"study_instance_uid": "3.1"}, "uq_study_entity"),
    ({"patient_id": "P1"}, "ix_version_patient_id"),
    ({"patient_id": "P1"}, "ix_study_patient_id"),
]


@pytest.mark.parametrize(("wanted", "database_index"), AS_OF_ONE)
@pytest.mark.parametrize("all_versions", [False, True])
def test_what_was_there_of_one_study_or_patient_uses_database_indexes(filled, wanted, database_index, all_versions):
    from backup_scp.index.reading import select

    statement = select.select(narrowed(as_of=at(5), all_versions=all_versions, **wanted), filled._database.dialect)
    assert_database_index_used(filled._database, statement, database_index)


@pytest.mark.parametrize(("level", "wanted", "database_index"), ONE_HIT)
def test_one_hit_queries_use_a_database_index(filled, level, wanted, database_index):
    from backup_scp.index.reading import select

    statement = select.search(query(level, **wanted), filled._database.dialect)
    assert_database_index_used(filled._database, statement, database_index)


def assert_database_index_used(database, statement, database_index):
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(database.reading())
        if not database.is_sqlite:  # few rows: a scan would be right
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        compiled = statement.compile(connection.engine, compile_kwargs={"render_postcompile": True})
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(explain + str(compiled), _parameters(compiled)))
    name = _AUTOMATIC.get(database_index, database_index) if database.is_sqlite else database_index
    assert name in plan
    if database.is_sqlite:
        assert "SCAN" not in plan.replace("SCAN anon_", "").replace("SCAN json_each", "")
    else:
        assert "Seq Scan on" not in plan


_AUTOMATIC = {  # SQLite names what stands behind a constraint itself
    "uq_study_entity": "sqlite_autoindex_study_1",
    "uq_series_study_id_series_instance_uid": "sqlite_autoindex_series_1",
    "uq_instance_sop_instance_uid_series_id": "sqlite_autoindex_instance_1",
}


def _parameters(compiled):
    if compiled.positional:
        return tuple(compiled.params[name] for name in compiled.positiontup)
    return compiled.params
