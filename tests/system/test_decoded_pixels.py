"""C-MOVE to a destination that accepts only uncompressed pixels: the decoded words are right, or nothing arrives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1

from tests.dicom.transcode.compression import DCMTK, NOT_CODED, OURS, Coded, coded_by_dcmtk, coded_here, variants
from tests.processes import wait_until
from tests.samples import encode, replace, uid
from tests.system.contents import decoder_processes
from tests.system.peers import movescu

STUDY = {"StudyInstanceUID": uid("1")}
VARIANTS = variants()


def identified(coded: Coded, name: str) -> Coded:
    """Return it as an image of its own."""
    ds = coded.dataset()
    ds.SOPInstanceUID = uid("decoded", name)
    return Coded(encode(ds, coded.sample.transfer_syntax_uid), coded.words)


def images(folder: Path) -> dict[str, Coded]:
    """Return one of each syntax, and all that pixels may look like in the commonest one."""
    made = {}
    for recipe in (*DCMTK, *OURS):
        for name, variant in VARIANTS.items():
            if (recipe, name) in NOT_CODED or (recipe != "JPEG Lossless SV1" and name != "overlay in the upper bits"):
                continue
            coded = coded_by_dcmtk(recipe, variant, folder) if recipe in DCMTK else coded_here(recipe, variant)
            made[f"{recipe}, {name}"] = identified(coded, f"{recipe}, {name}")
    return made


def without_bits(coded: Coded, name: str) -> Coded:
    """Return an image whose description is left-justified, with a codestream of only the lower 12 bits."""
    ds = replace(coded.dataset(), HighBit=15, SOPInstanceUID=uid("decoded", name))
    return Coded(encode(ds, coded.sample.transfer_syntax_uid), b"")


@pytest.mark.parametrize(
    ("option", "transfer_syntax"), [("+xe", ExplicitVRLittleEndian), ("+xi", ImplicitVRLittleEndian)]
)
def test_the_words_arrive_or_the_image_is_named_as_failed(
    option, transfer_syntax, start_node, start_storescp, tmp_path
):
    stored = images(tmp_path)
    refused = without_bits(stored["JPEG Extended, overlay in the upper bits"], "without bits")
    plain = start_storescp(options=(option,))
    node = start_node(remotes=[plain.remote])
    samples = [each.sample for each in (*stored.values(), refused)]
    assert {answer.status for answer in node.send(samples)} == {0}

    moved = movescu(node, "SINK", "STUDY", STUDY)

    received = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, plain.files())}
    assert (moved.status, moved.completed, moved.failed) == (0xB000, len(stored), 1)
    assert refused.sample.sop_instance_uid in moved.output
    assert {ds.file_meta.TransferSyntaxUID for ds in received.values()} == {transfer_syntax}
    for name, coded in stored.items():
        assert received.pop(coded.sample.sop_instance_uid).PixelData == coded.words, name
    assert received == {}
    assert len(decoder_processes(node)) == 1


def test_a_decoder_that_ended_is_started_anew(start_node, start_storescp, tmp_path):
    coded = identified(coded_by_dcmtk("JPEG Lossless SV1", VARIANTS["left-justified"], tmp_path), "one")
    plain = start_storescp(options=("+xe",))
    node = start_node(remotes=[plain.remote])
    node.send([coded.sample])
    for _ in range(2):
        assert movescu(node, "SINK", "STUDY", STUDY).status == 0
        (number,) = decoder_processes(node)
        os.kill(number, signal.SIGKILL)
        wait_until(lambda: not is_alive(number))  # noqa: B023 - it is asked at once
    assert {pydicom.dcmread(path).PixelData for path in plain.files()} == {coded.words}
    assert len(plain.files()) == 2


def is_alive(number: int) -> bool:
    status = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    return status not in "ZX"


def test_a_damaged_image_fails_and_the_others_arrive(start_node, start_storescp, tmp_path):
    good = identified(coded_by_dcmtk("JPEG Lossless SV1", VARIANTS["plain"], tmp_path), "good")
    ds = replace(good.dataset(), SOPInstanceUID=uid("decoded", "damaged"))
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.add_new("PixelData", "OB", encapsulate([frame[: len(frame) // 4 * 2]]))
    ds["PixelData"].is_undefined_length = True
    damaged = encode(ds, JPEGLosslessSV1)
    plain = start_storescp(options=("+xe",))
    node = start_node(remotes=[plain.remote])
    assert {answer.status for answer in node.send([damaged, good.sample])} == {0}

    moved = movescu(node, "SINK", "STUDY", STUDY)

    assert (moved.status, moved.completed, moved.failed) == (0xB000, 1, 1)
    assert damaged.sop_instance_uid in moved.output
    (received,) = plain.files()
    assert pydicom.dcmread(received).PixelData == good.words
