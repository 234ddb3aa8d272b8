"""The test tools themselves: what they report about other peers must be true."""

from __future__ import annotations

import psycopg
import pytest

from tests.samples import dx, encode, make_study, pydicom_samples
from tests.system import raw_sender
from tests.system.peers import DcmQRSCP, dcmsend, echoscu, findscu, getscu, movescu, storescu


def test_raw_sender_delivers_every_byte(storescp):
    # storescp takes images in the standard's Transfer Syntaxes, and Data Sets of even length.
    images = [sample for sample in pydicom_samples() if sample.sop_class_uid.startswith("1.2.840.10008.5.1.4.1.1.")]
    samples = [sample for sample in images if len(sample.data_set) % 2 == 0][:40]

    answers = raw_sender.send(storescp, samples)

    assert {answer.status for answer in answers} == {0}
    assert storescp.data_sets() == sorted(sample.data_set for sample in samples)


def test_raw_sender_sends_in_pieces(storescp):
    sample = encode(dx())
    pieces = [sample.data_set[:1000], sample.data_set[1000:1200], sample.data_set[1200:]]

    with raw_sender.Association(storescp, [(sample.sop_class_uid, [sample.transfer_syntax_uid])]) as association:
        assert association.store(sample, pieces).status == 0

    assert storescp.data_sets() == [sample.data_set]


def test_raw_sender_says_when_it_is_refused(storescp):
    sample = encode(dx())
    contexts = [(sample.sop_class_uid, ["1.2.826.0.1.3680043.10.9999.2.1"])]

    with (
        raw_sender.Association(storescp, contexts) as association,
        pytest.raises(raw_sender.AssociationRefusedError),
    ):
        association.store(sample)


def test_dcmtk_sends_to_dcmtk(storescp, tmp_path):
    paths = make_study(tmp_path / "study", instances=3)

    echoscu(storescp)
    storescu(storescp, *paths)
    dcmsend(storescp, tmp_path / "study")

    assert len(storescp.files()) == 6


@pytest.fixture
def dcmqrscp(tmp_path, processes, storescp):
    """Return dcmtk's own node; it knows the Move Destination."""
    node = DcmQRSCP(tmp_path / "dcmqrscp", remotes=[storescp.remote])
    processes.add(node.process)
    node.start()
    return node


def test_dcmtk_queries_and_retrieves_from_dcmtk(dcmqrscp, storescp, tmp_path):
    storescu(dcmqrscp, *make_study(tmp_path / "study", studies=2, instances=3))

    studies = findscu(dcmqrscp, "STUDY", {"PatientID": "PID1", "StudyInstanceUID": ""})
    study = {"StudyInstanceUID": studies[0].StudyInstanceUID}
    moved = movescu(dcmqrscp, "SINK", "STUDY", study)
    unknown = movescu(dcmqrscp, "NOWHERE", "STUDY", study)
    got = getscu(dcmqrscp, tmp_path / "got", "STUDY", study)

    assert len({answer.StudyInstanceUID for answer in studies}) == len(studies) == 2
    assert (moved.status, moved.completed, moved.failed) == (0, 3, 0)
    assert unknown.status == 0xA801
    assert (got.status, got.completed, got.failed) == (0, 3, 0)
    assert len(storescp.files()) == len(list((tmp_path / "got").iterdir())) == 3


def test_orthanc_queries_and_retrieves_from_orthanc(start_orthanc, storescp, tmp_path):
    holder = start_orthanc(ae_title="HOLDER")
    asker = start_orthanc(ae_title="ASKER", modalities=[holder.remote])
    holder.add_modality(asker.remote)
    holder.add_modality(storescp.remote)
    identifiers = holder.upload(*make_study(tmp_path / "study", instances=3))

    asker.echo("holder")
    query, answers = asker.find("holder", "Study", {"PatientID": "PID1"})
    asker.retrieve(query)
    holder.store("sink", identifiers)

    assert len(answers) == 1
    assert len(asker.instances()) == 3
    assert asker.data_sets() == holder.data_sets()
    assert len(storescp.files()) == 3


def test_each_database_is_new(postgres_url):
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE only_here (id INTEGER)")
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()

    assert tables == (1,)
