"""`rebuild` makes an index from the files alone that equals the old one."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
import sqlalchemy as sa
from pydicom.uid import ImplicitVRLittleEndian

from tests.samples import Sample, cr, ct_series, dx, encode, make_study, odd_identities, one_of_each, replace
from tests.system.node import Node, Remote
from tests.system.pynetdicom_peers import find

# What is not in the files: when each was verified, who was turned away, and numbers that only tell rows apart.
NOT_DERIVED = {"id", "revision", "verified_at", "damage"}
DERIVED_TABLES = {"study", "series", "instance", "version"}
LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")


def rows(node: Node) -> dict[str, list[str]]:
    """Return every row of the index; a reference to another row is replaced by that row."""
    url = node.settings.get("index", {}).get("url") or f"sqlite:///{node.home / 'index.sqlite'}"
    engine = sa.create_engine(str(url), poolclass=sa.NullPool)
    metadata = sa.MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        read = {
            name: {row["id"]: dict(row) for row in connection.execute(sa.select(table)).mappings()}
            for name, table in metadata.tables.items()
            if name in DERIVED_TABLES
        }
    engine.dispose()
    assert read.keys() == DERIVED_TABLES

    def resolved(table: str, row: dict) -> dict:
        said = {}
        for column, value in row.items():
            if column in NOT_DERIVED:
                continue
            parent = column.removesuffix("_id")
            is_reference = column.endswith("_id") and parent in DERIVED_TABLES and isinstance(value, int)
            said[column] = resolved(parent, read[parent][value]) if is_reference else value
        return said

    return {
        table: sorted(json.dumps(resolved(table, row), default=repr, sort_keys=True) for row in each.values())
        for table, each in read.items()
    }


def answers(node: Node) -> list[list[str]]:
    """Return the node's answers to queries for everything."""
    model = "1.2.840.10008.5.1.4.1.2.1"
    keys = ("PatientID", "PatientName", "StudyInstanceUID", "ModalitiesInStudy", "SeriesInstanceUID", "SOPInstanceUID")
    found = [find(node, level, dict.fromkeys(keys, ""), model=model) for level in LEVELS]
    assert all(each.status == 0 for each in found)
    return [sorted(match.to_json() for match in each.matches) for each in found]


def fill(node: Node, tmp_path) -> None:
    """Send what a year brings: corrections, clashes, odd identities, two clinics, imports, re-sends."""

    def send(samples: Iterable[Sample], calling: str = "CONSOLE") -> None:
        assert {answer.status for answer in node.send(samples, calling=calling)} == {0}

    send(map(encode, one_of_each("1")))
    send(encode(ds, ImplicitVRLittleEndian) for ds in ct_series(3, study="2", PatientID="PID2"))
    # A correction: the same UIDs, another name, description and number, from the same sender; then once more.
    for name in ("Corrected^Name", "Corrected^Again"):
        send([encode(dx(study="1", PatientName=name, StudyDescription=name, InstanceNumber="7"))])
    # A correction of the modality, and of the patient: the instance moves to another entity.
    send([encode(cr(study="moved", Modality="CR"))])
    send([encode(cr(study="moved", Modality="DX"))])
    send([encode(cr(study="moved", Modality="DX", PatientID="PID3", PatientName="Third^Person"))])
    # A clash: other content from another sender, before and after the owner's correction.
    send([encode(dx(study="1", StudyDescription="Not ours"))], calling="ELSEWHERE")
    send([encode(dx(study="1", StudyDescription="Ours, at last"))])
    # One SOP Instance UID in two studies and in two series.
    twice = encode(dx(study="twice"))
    send([twice, encode(replace(dx(study="thrice"), SOPInstanceUID=twice.sop_instance_uid))])
    send([encode(replace(dx(study="twice", series="9"), SOPInstanceUID=twice.sop_instance_uid))])
    # Re-sends change nothing.
    send([twice], calling="ELSEWHERE")
    # What one instance leaves empty another one of its study says; and later ones say something else.
    send([encode(dx(study="merged", PatientName="", StudyDate=""))])
    send([encode(dx(study="merged", series="2", PatientName="Late^Name", StudyDate="20240601"))])
    send([encode(dx(study="merged", series="3", PatientName="Later^Name", StudyDate="", PatientSex=""))])
    # Names in other scripts, and identities of all kinds.
    send([encode(dx(study="latin", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg"))])
    send([encode(dx(study="utf8", SpecificCharacterSet="ISO_IR 192", PatientName="Wang^XiaoDong=王^小东"))])
    send(odd_identities())
    # The same Patient ID at another clinic.
    send([encode(dx(study="other clinic"))], calling="CLINIC_B")
    imported = make_study(tmp_path / "drive", patients=1, instances=2)
    node.cli("import", *imported)


@pytest.fixture(params=["sqlite", "postgresql"])
def filled(request, make_node, tmp_path):
    """Return a node, stopped, that holds a mix of everything."""
    settings = {}
    if request.param == "postgresql":
        settings = {"index": {"url": request.getfixturevalue("postgres_url")}}
    clinics = [Remote(f"clinic {name}", f"CLINIC_{name.upper()}", 104, site=f"clinic-{name}") for name in "ab"]
    node = make_node(settings=settings, remotes=clinics)
    if settings:
        node.cli("db", "upgrade")
    node.start()
    fill(node, tmp_path)
    return node


def lose_the_index(node: Node) -> None:
    """The disk of the database is gone."""
    url = node.settings.get("index", {}).get("url")
    if url is None:
        lost = list(node.home.glob("index.sqlite*"))
        assert lost
        for file in lost:
            file.unlink()
        return
    engine = sa.create_engine(str(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    node.cli("db", "upgrade")


def test_rebuild_makes_an_equal_index(filled):
    node = filled
    asked = answers(node)
    node.stop()
    before, status = rows(node), node.json("status", exit_code=None)
    assert_every_kind(before)

    done = node.json("rebuild")

    assert done["left_out"] == []
    assert done["entered"] == len(before["version"]) > 40
    after = rows(node)
    for table in DERIVED_TABLES:
        assert after[table] == before[table], table
    assert node.json("status", exit_code=None)["holdings"] == status["holdings"]
    assert node.json("status", exit_code=None)["remarks"] == status["remarks"]

    lose_the_index(node)
    assert node.json("rebuild")["entered"] == done["entered"]
    assert rows(node) == before
    node.start()
    assert answers(node) == asked


def assert_every_kind(said: dict[str, list[str]]) -> None:
    """Otherwise the test would compare less than it claims."""
    versions = [json.loads(row) for row in said["version"]]
    assert {version["flags"] for version in versions} >= {"", "clash", "unparsed"}
    assert {bool(version["answering"]) for version in versions} == {True, False}
    assert {version["site"] for version in versions} == {"", "clinic-b"}
    assert {version["service"] for version in versions} == {"C-STORE", "IMPORT"}
    assert {version["calling_ae_title"] for version in versions} >= {"CONSOLE", "ELSEWHERE", "CLINIC_B", ""}
    assert all(version["received_at"] and version["location"] for version in versions)
    assert any(json.loads(row)["merged_earlier"] for row in said["study"])


@pytest.mark.parametrize("kind", ["no database", "broken pages"])
def test_an_index_that_is_broken_is_made_again(make_node, kind):
    """The command names the problem and the fix; after the fix the index is as before."""
    node = make_node()
    node.start()
    assert {answer.status for answer in node.send(map(encode, one_of_each("1")))} == {0}
    node.stop()
    before, index = rows(node), node.home / "index.sqlite"
    assert not list(node.home.glob("index.sqlite-wal"))
    broken = bytearray(index.read_bytes())
    first = 0 if kind == "no database" else 4096
    broken[first:] = b"this was a database once " * (len(broken) // 25)
    index.write_bytes(broken)

    said = node.cli("status", exit_code=1).stdout
    assert "backup-scp rebuild" in said
    if "move it away" in said:
        index.rename(node.home / "moved away")
    node.cli("rebuild")

    assert rows(node) == before


def test_a_new_node_takes_over_the_files_of_another(make_node, tmp_path):
    """Another machine, another database engine's numbers, the same archive folder: the same index."""
    first = make_node()
    first.start()
    first.send(map(encode, one_of_each("1")))
    first.stop()
    second = make_node(settings={"archive": {"url": str(first.home / "archive")}})

    assert second.json("rebuild")["entered"] == len(one_of_each("1"))

    assert rows(second) == rows(first)
    second.start()
    assert len(answers(second)[3]) == len(one_of_each("1"))
