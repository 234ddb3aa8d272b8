"""C-MOVE and C-GET: stored images come back byte for byte; others are counted and named."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.processes import clean_environment, free_port, wait_until
from tests.samples import (
    PRIVATE_TRANSFER_SYNTAX,
    Sample,
    ct_series,
    data_set_bytes,
    dx,
    encode,
    instance,
    one_of_each,
    structured_report,
    uid,
)
from tests.system import pynetdicom_peers
from tests.system.contents import damage, stored_file
from tests.system.node import Remote
from tests.system.peers import (
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    dcmtk,
    final_status,
    getscu,
    movescu,
    require,
)
from tests.system.pynetdicom_peers import MOVE, NATIVE, Sink, counts, get, identifier, move

STUDY = {"StudyInstanceUID": uid("1")}
DX = str(DigitalXRayImageStorageForPresentation)
CT = str(CTImageStorage)


def data_sets(samples) -> list[bytes]:
    return sorted(sample.data_set for sample in samples)


# ----------------------------------------------------------------------------------------------------- what is selected


@pytest.fixture
def holding(start_node, storescp):
    """Return a node with two studies of one patient and one of another, that knows SINK; and what it holds."""
    node = start_node(remotes=[storescp.remote])
    samples = {
        "one": [encode(ds) for ds in one_of_each("1")],
        "two": [encode(ds) for ds in ct_series(3, study="2")],
        "other": [encode(dx(study="3", PatientID="PID2"))],
    }
    assert {a.status for a in node.send(sample for group in samples.values() for sample in group)} == {0}
    return node, samples


@pytest.mark.parametrize(
    ("model", "level", "keys", "expected"),
    [
        (PATIENT_ROOT, "PATIENT", {"PatientID": "PID1"}, ["one", "two"]),
        (PATIENT_STUDY_ONLY, "PATIENT", {"PatientID": "PID1"}, ["one", "two"]),
        (PATIENT_ROOT, "STUDY", {"PatientID": "PID1", "StudyInstanceUID": uid("2")}, ["two"]),
        (STUDY_ROOT, "STUDY", {"StudyInstanceUID": f"{uid('2')}\\{uid('3')}"}, ["two", "other"]),
        (STUDY_ROOT, "SERIES", {"StudyInstanceUID": uid("2"), "SeriesInstanceUID": uid("2", "2")}, ["two"]),
        (STUDY_ROOT, "STUDY", {"StudyInstanceUID": uid("not held")}, []),
    ],
    ids=["patient", "patient, patient/study only", "study", "list of studies", "series", "nothing held"],
)
def test_movescu_brings_back_every_byte(holding, storescp, model, level, keys, expected):
    node, samples = holding
    wanted = [sample for group in expected for sample in samples[group]]

    moved = movescu(node, "SINK", level, keys, model=model)

    assert (moved.status, moved.completed, moved.failed, moved.warning) == (0, len(wanted), 0, 0)
    assert storescp.data_sets() == data_sets(wanted)


def test_image_level_and_lists_of_uids(holding, storescp):
    node, samples = holding
    series = {"StudyInstanceUID": uid("2"), "SeriesInstanceUID": uid("2", "2")}
    first, _, third = samples["two"]

    one = movescu(node, "SINK", "IMAGE", {**series, "SOPInstanceUID": first.sop_instance_uid})
    assert (one.status, one.completed) == (0, 1)
    assert storescp.data_sets() == [first.data_set]

    listed = f"{first.sop_instance_uid}\\{third.sop_instance_uid}"
    two = movescu(node, "SINK", "IMAGE", {**series, "SOPInstanceUID": listed})
    assert (two.status, two.completed) == (0, 2)
    assert storescp.data_sets() == data_sets([first, first, third])


def test_a_retrieve_without_its_unique_key_is_refused(holding, storescp):
    node, _ = holding

    assert movescu(node, "SINK", "STUDY", {"StudyInstanceUID": ""}).status == 0xA900
    assert movescu(node, "SINK", "STUDY", {"PatientID": "PID1"}).status == 0xA900
    assert movescu(node, "SINK", "SERIES", STUDY).status == 0xA900
    assert storescp.files() == []


def test_getscu_brings_back_every_byte(node, tmp_path):
    samples = [encode(ds) for ds in one_of_each("1")]
    node.send(samples)

    got = getscu(node, tmp_path / "got", "STUDY", STUDY)

    received = [data_set_bytes(path) for path in (tmp_path / "got").iterdir()]
    assert (got.status, got.completed, got.failed, got.warning) == (0, len(samples), 0, 0)
    assert sorted(received) == data_sets(samples)


def test_pending_counts_of_a_get_add_up(node):
    samples = [encode(ds, ImplicitVRLittleEndian) for ds in ct_series(3)]
    node.send(samples)

    answers, stored = get(node, "STUDY", STUDY, {CT: [ImplicitVRLittleEndian]})

    *pending, final = answers
    assert {answer.status for answer in pending} == {0xFF00}
    first, *others = [(answer.remaining, answer.completed) for answer in pending]  # at once, then now and then
    assert first == (3, 0)
    assert others in ([], [(2, 1)], [(1, 2)], [(2, 1), (1, 2)])
    assert (final.status, final.remaining, final.completed) == (0, None, 3)
    assert sorted(one.data_set for one in stored) == data_sets(samples)
    assert {one.move_originator for one in stored} == {""}


def test_getscu_at_image_level(node, tmp_path):
    samples = [encode(ds) for ds in ct_series(3)]
    node.send(samples)
    keys = STUDY | {"SeriesInstanceUID": uid("1", "2"), "SOPInstanceUID": samples[1].sop_instance_uid}

    got = getscu(node, tmp_path / "got", "IMAGE", keys)

    (file,) = (tmp_path / "got").iterdir()
    assert (got.status, got.completed) == (0, 1)
    assert data_set_bytes(file) == samples[1].data_set


def test_the_answering_version_is_moved(start_node, storescp):
    """The latest of the same sender; a clash from another does not take over."""
    node = start_node(remotes=[storescp.remote])
    first, corrected, foreign = (encode(dx(StudyDescription=text)) for text in ("First", "Corrected", "Foreign"))
    for sample, calling in ((first, "CONSOLE"), (corrected, "CONSOLE"), (foreign, "ELSEWHERE")):
        assert node.send([sample], calling=calling)[0].status == 0

    moved = movescu(node, "SINK", "STUDY", STUDY)

    assert (moved.status, moved.completed) == (0, 1)
    assert storescp.data_sets() == [corrected.data_set]


# ------------------------------------------------------------------------------------------------------------- C-MOVE


def test_pending_counts_add_up(holding):
    node, samples = holding

    answers = move(node, "SINK", "STUDY", STUDY)

    *pending, final = answers
    total = len(samples["one"])
    assert {answer.status for answer in pending} == {0xFF00}
    told = [answer.completed or 0 for answer in pending]  # at once, then now and then
    assert told[0] == 0
    assert told == sorted(set(told) & set(range(total)))
    assert all(answer.total == total for answer in pending)
    assert (final.status, final.completed, final.failed, final.warning) == (0, total, 0, 0)
    assert final.remaining is None  # PS3.4 C.4.2.1.6: not in a final answer other than Cancel
    assert all(answer.failed_list == () for answer in answers)


def test_move_originator_is_the_requestor(start_node):
    with Sink({DX: NATIVE}) as sink:
        node = start_node(remotes=[sink.remote])
        node.send([encode(dx())])

        answers = move(node, "SINK", "STUDY", STUDY, calling="WORKSTATION", message_id=4711)

    (stored,) = sink.stored
    assert answers[-1].status == 0
    assert (stored.move_originator, stored.move_message_id) == ("WORKSTATION", 4711)
    assert stored.calling_ae_title == "BACKUP_SCP"


def test_unknown_destination(holding, storescp):
    node, _ = holding

    (answer,) = move(node, "NOWHERE", "STUDY", STUDY)

    assert answer.status == 0xA801
    assert "NOWHERE" in answer.error_comment
    assert movescu(node, "NOWHERE", "STUDY", STUDY).status == 0xA801
    assert storescp.files() == []


def test_destination_that_may_not_be_sent_to(start_node):
    with Sink({DX: NATIVE}) as sink:
        node = start_node(remotes=[dataclasses.replace(sink.remote, destination=False)])
        node.send([encode(dx())])

        assert move(node, "SINK", "STUDY", STUDY)[-1].status == 0xA801

    assert sink.stored == []


def test_destination_that_is_down(start_node):
    node = start_node(remotes=[Remote("down", "DOWN", free_port())])
    samples = [encode(ds) for ds in ct_series(3)]
    node.send(samples)

    final = move(node, "DOWN", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed) == (0xA702, 0, 3)
    assert sorted(final.failed_list) == sorted(sample.sop_instance_uid for sample in samples)
    assert "DOWN" in final.error_comment
    assert node.echo()


def test_destination_that_rejects_us(start_node, start_storescp):
    refusing = start_storescp(ae_title="REFUSING", options=("--refuse",))
    node = start_node(remotes=[refusing.remote])
    node.send([encode(dx())])

    final = move(node, "REFUSING", "STUDY", STUDY)[-1]

    assert (final.status, final.failed, len(final.failed_list)) == (0xA702, 1, 1)


def test_destination_that_takes_some_sop_classes(start_node):
    images, report = [encode(ds) for ds in ct_series(2)], encode(structured_report())
    with Sink({CT: NATIVE}) as sink:
        node = start_node(remotes=[sink.remote])
        node.send([*images, report])

        *pending, final = move(node, "SINK", "STUDY", STUDY)

    assert (final.status, final.completed, final.failed) == (0xB000, 2, 1)
    assert final.failed_list == (report.sop_instance_uid,)
    assert all(answer.failed_list == () for answer in pending)
    assert sorted(stored.data_set for stored in sink.stored) == data_sets(images)


def test_destination_that_takes_no_sop_class_of_ours(start_node):
    with Sink({CT: NATIVE}) as sink:
        node = start_node(remotes=[sink.remote])
        sample = encode(dx())
        node.send([sample])

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed) == (0xA702, 0, 1)
    assert final.failed_list == (sample.sop_instance_uid,)


def test_destination_that_refuses_and_warns_in_its_answers(start_node):
    """0xA700 is a failure, 0xB000 a warning: stored, and counted as such."""
    fine, full, coerced = (encode(ds) for ds in ct_series(3))
    answers = {fine.sop_instance_uid: 0, full.sop_instance_uid: 0xA700, coerced.sop_instance_uid: 0xB000}
    with Sink({CT: NATIVE}, lambda stored: answers[stored.sop_instance_uid]) as sink:
        node = start_node(remotes=[sink.remote])
        node.send([fine, full, coerced])

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed, final.warning) == (0xB000, 1, 1, 1)
    assert final.failed_list == (full.sop_instance_uid,)


def test_destination_that_refuses_everything(start_node):
    samples = [encode(ds) for ds in ct_series(2)]
    with Sink({CT: NATIVE}, lambda _: 0xA700) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed) == (0xA702, 0, 2)
    assert sorted(final.failed_list) == sorted(sample.sop_instance_uid for sample in samples)


def test_destination_that_breaks_off_at_one_instance(start_node):
    """Some abort at the sight of one image; it fails, and keeps no other back."""
    samples = [encode(ds) for ds in ct_series(4)]
    dreaded = samples[2].sop_instance_uid
    with Sink({CT: NATIVE}, lambda stored: sink.break_off() if stored.sop_instance_uid == dreaded else 0) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed) == (0xB000, 3, 1)
    assert final.failed_list == (dreaded,)


def test_destination_that_goes_away_in_the_middle(start_node):
    """What it confirmed counts as completed, everything else as failed, by its UID."""
    samples = [encode(ds) for ds in ct_series(4)]
    with Sink({CT: NATIVE}, lambda _: sink.break_off(for_good=True) if len(sink.stored) == 2 else 0) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    confirmed = {stored.sop_instance_uid for stored in sink.stored[:2]}
    assert (final.status, final.completed, final.failed) == (0xB000, 2, 2)
    assert set(final.failed_list) == {sample.sop_instance_uid for sample in samples} - confirmed
    assert node.echo()


def test_a_move_is_cancelled(start_node):
    """The destination holds its first answer back until the C-CANCEL is out, so the node finds it there."""
    cancelled = threading.Event()
    samples = [encode(ds) for ds in ct_series(5)]
    with Sink({CT: NATIVE}, lambda _: 0 if cancelled.wait(60) else 0xC000) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)
        with pynetdicom_peers.association(node, pynetdicom_peers.STUDY_ROOT + MOVE) as requestor:
            answers = requestor.send_c_move(identifier("STUDY", STUDY), "SINK", pynetdicom_peers.STUDY_ROOT + MOVE)
            requestor.send_c_cancel(1, query_model=pynetdicom_peers.STUDY_ROOT + MOVE)
            cancelled.set()
            final = [counts(*answer) for answer in answers][-1]
            assert requestor.is_established

    assert final.status == 0xFE00
    assert final.completed == len(sink.stored) < 5
    assert final.total == 5
    assert final.remaining
    assert final.failed == 0


def test_movescu_cancels(start_node, tmp_path):
    """The destination waits with its second answer until movescu has cancelled, and sleeps until it is answered."""
    log = tmp_path / "movescu.log"
    asking: list[subprocess.Popen[bytes]] = []

    def has_cancelled() -> bool:
        state = Path(f"/proc/{asking[0].pid}/stat").read_text().rpartition(")")[2].split()[0]
        return "Sending Cancel Request" in log.read_text() and state == "S"

    def answer(_) -> int:
        if len(sink.stored) == 1:
            wait_until(has_cancelled)
        return 0

    with Sink({CT: NATIVE}, answer) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(encode(ds) for ds in ct_series(5))
        query = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid('1')}"]
        argv = [require("movescu"), "-d", "--cancel", "1", "-aem", "SINK", *query, "-aec", "BACKUP_SCP"]
        with log.open("wb") as output:
            argv = [*argv, node.host, str(node.port)]
            with subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, env=clean_environment()) as movescu:
                asking.append(movescu)
                movescu.wait(110)

    assert final_status(log.read_text()) == 0xFE00
    assert len(sink.stored) < 5


def test_orthanc_as_destination(start_node, start_orthanc):
    orthanc = start_orthanc()
    node = start_node(remotes=[orthanc.remote])
    samples = [encode(ds) for ds in one_of_each("1")]
    node.send(samples)

    moved = movescu(node, "ORTHANC", "STUDY", STUDY)

    assert (moved.status, moved.completed, moved.failed) == (0, len(samples), 0)
    assert orthanc.data_sets() == data_sets(samples)


# ---------------------------------------------------------------------------------------------------- damaged, missing


def test_damaged_and_missing_files_are_counted_and_never_sent(start_node, storescp, tmp_path):
    node = start_node(remotes=[storescp.remote])
    intact, damaged, missing = (encode(ds) for ds in ct_series(3))
    node.send([intact, damaged, missing])
    damage(stored_file(node, damaged), "flip")
    stored_file(node, missing).unlink()

    moved = move(node, "SINK", "STUDY", STUDY)[-1]
    got = getscu(node, tmp_path / "got", "STUDY", STUDY)

    assert (moved.status, moved.completed, moved.failed) == (0xB000, 1, 2)
    assert set(moved.failed_list) == {damaged.sop_instance_uid, missing.sop_instance_uid}
    assert storescp.data_sets() == [intact.data_set]
    assert (got.status, got.completed, got.failed) == (0xB000, 1, 2)
    assert [data_set_bytes(path) for path in (tmp_path / "got").iterdir()] == [intact.data_set]
    status = node.json("status", exit_code=1)  # what a retrieve meets is known from then on
    assert status["holdings"]["damaged"] == 2

    assert {answer.status for answer in node.send([damaged, missing])} == {0}
    assert node.json("status", exit_code=None)["holdings"]["damaged"] == 0
    assert move(node, "SINK", "STUDY", STUDY)[-1].completed == 3


def test_what_is_damaged_goes_out_as_it_is_held_in_another_encoding(start_node, storescp, tmp_path):
    node = start_node(remotes=[storescp.remote])
    (image,) = ct_series(1)
    first, again = encode(image), encode(image, ImplicitVRLittleEndian)
    node.send([first])
    damaged = stored_file(node, first)
    node.send([again])
    damage(damaged, "flip")

    assert (moved := move(node, "SINK", "STUDY", STUDY)[-1]).status == 0, moved
    assert getscu(node, tmp_path / "got", "STUDY", STUDY).completed == 1
    node.cli("restore", "--all", "--to", tmp_path / "restored")
    assert storescp.data_sets() == [again.data_set]
    (restored,) = (path for path in (tmp_path / "restored").rglob("*") if path.is_file())
    assert data_set_bytes(restored) == again.data_set
    assert node.json("status", exit_code=1)["holdings"]["damaged"] == 1


# ----------------------------------------------------------------------------------------------------- Transfer Syntax


def compressed(tmp_path: Path, number: int, program: str, *options: str) -> Sample:
    """Return an image compressed by one of dcmtk's programs."""
    plain = encode(dx(number=number)).write(tmp_path / f"plain{number}.dcm")
    packed = tmp_path / f"packed{number}.dcm"
    dcmtk(program, *options, plain, packed)
    sample = Sample.of_file(packed)
    assert sample is not None
    return sample


def jpeg_2000(number: int) -> Sample:
    """Return an image compressed by pydicom."""
    ds = dx(number=number)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    return encode(ds, JPEG2000Lossless)


def big_endian(number: int) -> Sample:
    """Return an image in the retired syntax: pixels are words, and swapped."""
    ds = dx(number=number)
    words = ds.PixelData
    ds.PixelData = bytes(words[place ^ 1] for place in range(len(words)))
    return encode(ds, ExplicitVRBigEndian)


def in_lossless_syntaxes(tmp_path: Path) -> list[Sample]:
    """Return the same pixels in different encodings."""
    samples = [
        encode(dx(number=1), ExplicitVRLittleEndian),
        big_endian(2),
        encode(dx(number=3), DeflatedExplicitVRLittleEndian),
        compressed(tmp_path, 4, "dcmcrle"),
        compressed(tmp_path, 5, "dcmcjpls"),
        jpeg_2000(6),
    ]
    assert len({sample.transfer_syntax_uid for sample in samples}) == len(samples)
    return samples


def in_jpeg_lossless(tmp_path: Path) -> list[Sample]:
    """Return images in the syntaxes that most DR consoles offer first."""
    return [compressed(tmp_path, 7, "dcmcjpeg", "+e1"), compressed(tmp_path, 8, "dcmcjpeg", "+el")]


@pytest.mark.parametrize("accepted", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
def test_what_should_be_deflated_and_is_not_is_given_back_as_what_it_is(start_node, tmp_path, accepted):
    """As dcmjs-dimse sends it: labelled as deflated, but not deflated."""
    plain = encode(dx())
    with Sink({plain.sop_class_uid: [accepted]}) as sink:
        node = start_node(remotes=[sink.remote])
        (answer,) = node.send([dataclasses.replace(plain, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)])
        assert answer.status == 0
        final = move(node, "SINK", "STUDY", {"StudyInstanceUID": plain.dataset().StudyInstanceUID})[-1]
    assert (final.status, final.completed) == (0, 1)
    (came,) = sink.stored
    assert came.data_set == encode(dx(), accepted).data_set
    (remark,) = node.json("status", exit_code=None)["remarks"]
    assert remark["flags"] == ["not-deflated"]
    (file,) = node.restored(tmp_path / "restored")
    dumped = subprocess.run(["dcmdump", str(file)], check=True, capture_output=True, text=True)
    assert "LittleEndianExplicit" in dumped.stdout
    assert (dumped.stderr, data_set_bytes(file)) == ("", plain.data_set)


@pytest.mark.parametrize("accepted", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=["implicit", "explicit"])
@pytest.mark.parametrize(
    "make",
    [
        in_lossless_syntaxes,
        in_jpeg_lossless,
    ],
)
def test_a_destination_that_takes_only_one_native_syntax_gets_the_same_pixels(start_node, tmp_path, make, accepted):
    samples = make(tmp_path)
    with Sink({DX: [accepted]}) as sink:
        node = start_node(remotes=[sink.remote])
        assert {answer.status for answer in node.send(samples)} == {0}

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed) == (0, len(samples), 0), final
    assert {stored.transfer_syntax_uid for stored in sink.stored} == {accepted}
    for stored in sink.stored:
        received = Sample("", DX, stored.sop_instance_uid, accepted, stored.data_set).dataset()
        original = dx(number=int(received.InstanceNumber))
        assert received.PixelData == original.PixelData
        assert all(received[element.tag].value == element.value for element in original), received.InstanceNumber


def test_storescp_that_takes_only_implicit_gets_the_same_pixels(start_node, start_storescp, tmp_path):
    plain = start_storescp(options=("+xi",))
    node = start_node(remotes=[plain.remote])
    samples = [big_endian(1), compressed(tmp_path, 2, "dcmcrle")]
    node.send(samples)

    moved = movescu(node, "SINK", "STUDY", STUDY)

    received = [pydicom.dcmread(path) for path in plain.files()]
    assert (moved.status, moved.completed, moved.failed) == (0, 2, 0)
    assert {ds.file_meta.TransferSyntaxUID for ds in received} == {ImplicitVRLittleEndian}
    assert {ds.PixelData for ds in received} == {dx().PixelData}


def test_a_destination_that_takes_the_stored_syntax_gets_the_stored_bytes(start_node, tmp_path):
    """Native is offered as well, and preferred by many peers: they must not be given the choice."""
    samples = [*in_lossless_syntaxes(tmp_path), *in_jpeg_lossless(tmp_path)]
    accepted = [*NATIVE, *(sample.transfer_syntax_uid for sample in samples)]
    with Sink({DX: accepted}) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed) == (0, len(samples))
    assert sorted(stored.data_set for stored in sink.stored) == data_sets(samples)
    assert {s.sop_instance_uid: s.transfer_syntax_uid for s in sink.stored} == {
        sample.sop_instance_uid: sample.transfer_syntax_uid for sample in samples
    }


def undecodable() -> list[Sample]:
    """Return instances whose pixels nobody here can decode."""
    video, private, broken = (encode(dx(number=number)) for number in (1, 2, 3))
    return [
        dataclasses.replace(video, transfer_syntax_uid=str(MPEG2MPML)),
        dataclasses.replace(private, transfer_syntax_uid=PRIVATE_TRANSFER_SYNTAX),
        dataclasses.replace(broken, transfer_syntax_uid=str(JPEGLSLossless)),
    ]


def test_what_cannot_be_decoded_fails_and_is_never_sent_without_its_pixels(start_node):
    native, samples = encode(dx(number=9)), undecodable()
    with Sink({DX: NATIVE}) as sink:
        node = start_node(remotes=[sink.remote])
        assert {answer.status for answer in node.send([native, *samples])} == {0}

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed) == (0xB000, 1, len(samples))
    assert set(final.failed_list) == {sample.sop_instance_uid for sample in samples}
    assert [stored.data_set for stored in sink.stored] == [native.data_set]


def test_what_cannot_be_decoded_goes_as_it_is_to_one_who_takes_it(start_node):
    samples = undecodable()
    with Sink({DX: [*NATIVE, *(sample.transfer_syntax_uid for sample in samples)]}) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)

        final = move(node, "SINK", "STUDY", STUDY)[-1]

    assert (final.status, final.completed, final.failed) == (0, len(samples), 0)
    assert sorted(stored.data_set for stored in sink.stored) == data_sets(samples)


def test_getscu_that_takes_only_native_syntaxes_gets_the_same_pixels(node, tmp_path):
    node.send([compressed(tmp_path, 1, "dcmcrle"), compressed(tmp_path, 2, "dcmcjpls")])

    got = getscu(node, tmp_path / "got", "STUDY", STUDY)

    received = [pydicom.dcmread(path) for path in (tmp_path / "got").iterdir()]
    assert (got.status, got.completed, got.failed) == (0, 2, 0)
    assert {ds.PixelData for ds in received} == {dx().PixelData}
    assert all(ds.file_meta.TransferSyntaxUID != RLELossless for ds in received)


# ------------------------------------------------------------------------------------------------ Presentation Contexts


def many_contexts(sop_classes: int) -> list[Sample]:
    """Return small instances of so many private SOP Classes, each in two Transfer Syntaxes, all in study 1."""
    samples = []
    for number in range(sop_classes):
        sop_class = f"1.2.826.0.1.3680043.10.9999.5.{number}"
        samples.append(encode(instance(sop_class, number=1)))
        samples.append(encode(instance(sop_class, number=2), DeflatedExplicitVRLittleEndian))
    return samples


def test_more_than_128_contexts_go_over_several_associations(start_node, storescp):
    node = start_node(remotes=[storescp.remote])
    samples = many_contexts(75)
    assert {answer.status for answer in node.send(samples)} == {0}

    moved = movescu(node, "SINK", "STUDY", STUDY)

    assert (moved.status, moved.completed, moved.failed) == (0, 150, 0)
    assert storescp.data_sets() == data_sets(samples)
    assert storescp.process.output.count("Association Received") > 1


def test_a_get_names_what_the_requestor_has_no_context_for(node):
    """An association has room for 128 contexts; C-GET cannot open another one."""
    samples = many_contexts(75)
    node.send(samples)
    offered = {sample.sop_class_uid: [ExplicitVRLittleEndian] for sample in samples[:100]}

    answers, stored = get(node, "STUDY", STUDY, offered)

    final = answers[-1]
    missing = {sample.sop_instance_uid for sample in samples if sample.sop_class_uid not in offered}
    assert (final.status, final.completed, final.failed) == (0xB000, 100, 50)
    assert set(final.failed_list) == missing
    assert len(stored) == 100


def test_a_get_without_a_storage_context_fails_by_name(node):
    samples = [encode(ds) for ds in ct_series(2)]
    node.send(samples)

    answers, stored = get(node, "STUDY", STUDY, {DX: NATIVE})

    assert (answers[-1].status, answers[-1].failed) == (0xA702, 2)
    assert set(answers[-1].failed_list) == {sample.sop_instance_uid for sample in samples}
    assert stored == []
