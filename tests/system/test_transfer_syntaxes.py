"""Every Transfer Syntax that a sender can make, and every file that ships with pydicom: stored unchanged."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.samples import (
    PRIVATE_SOP_CLASS,
    PRIVATE_TRANSFER_SYNTAX,
    Sample,
    dx,
    encode,
    one_of_each,
    pydicom_samples,
    secondary_capture,
    uid,
)
from tests.system.contents import digests, index_rows, private_information, visible
from tests.system.peers import dcmsend, dcmtk, findscu, storescu

# Name: what makes it, of what, and how storescu proposes it (it cannot for JPEG's process 14).
RECIPES: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "implicit": (("dcmconv", "+ti"), "dx", ("-xi",)),
    "explicit": (("dcmconv", "+te"), "dx", ("-xe",)),
    "big endian": (("dcmconv", "+tb"), "dx", ("-xb",)),
    "deflated": (("dcmconv", "+td"), "dx", ("-xd",)),
    "JPEG lossless SV1": (("dcmcjpeg", "+e1"), "dx", ("-xs",)),
    "JPEG lossless": (("dcmcjpeg", "+el"), "dx", ()),
    "JPEG baseline": (("dcmcjpeg", "+eb"), "sc", ("-xy",)),
    "JPEG extended": (("dcmcjpeg", "+ee"), "dx", ("-xx",)),
    "JPEG progressive": (("dcmcjpeg", "+ep"), "dx", ()),
    "JPEG-LS lossless": (("dcmcjpls", "+el"), "dx", ("-xt",)),
    "JPEG-LS near-lossless": (("dcmcjpls", "+en"), "dx", ("-xu",)),
    "RLE": (("dcmcrle",), "dx", ("-xr",)),
}
EXPECTED = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "JPEG lossless SV1": "1.2.840.10008.1.2.4.70",
    "JPEG lossless": "1.2.840.10008.1.2.4.57",
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG extended": "1.2.840.10008.1.2.4.51",
    "JPEG progressive": "1.2.840.10008.1.2.4.55",
    "JPEG-LS lossless": "1.2.840.10008.1.2.4.80",
    "JPEG-LS near-lossless": "1.2.840.10008.1.2.4.81",
    "RLE": "1.2.840.10008.1.2.5",
}


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Return one file in each Transfer Syntax that dcmtk can make, each its own SOP Instance."""
    made = {}
    for number, (name, ((program, *options), kind, _)) in enumerate(RECIPES.items(), 1):
        identity = {"SOPInstanceUID": uid("syntax", name), "InstanceNumber": str(number)}
        ds = dx(**identity) if kind == "dx" else secondary_capture(**identity)
        source = encode(ds).write(tmp_path / "source" / f"{number}.dcm")
        target = tmp_path / "made" / f"{number:02}.dcm"
        target.parent.mkdir(exist_ok=True)
        dcmtk(program, *options, source, target)
        made[name] = target
    return made


def transfer_syntaxes(paths) -> list[str]:
    return sorted(str(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID) for path in paths)


@pytest.fixture
def sent(files, storescp) -> Counter[str]:
    """Return the Data Sets that dcmtk and Orthanc send: those of the files, but deflated ones are deflated again.

    How they do so is told by storescp, which keeps every bit.
    """
    storescu(storescp, files["deflated"], options=("-xd",))
    return digests(path for name, path in files.items() if name != "deflated") + digests(storescp.files())


def test_dcmsend_in_every_transfer_syntax_that_it_leaves_alone(node, files, sent, tmp_path):
    re_encoded = digests(files.pop(name) for name in ("implicit", "big endian"))  # it makes these explicit

    dcmsend(node, *files.values(), options=("--decompress-never",))

    stored = visible(node)
    assert transfer_syntaxes(stored) == sorted(EXPECTED[name] for name in files)
    assert digests(stored) == sent - re_encoded
    assert digests(node.restored(tmp_path / "back")) == sent - re_encoded
    assert len(index_rows(node)) == len(files)
    for path in stored:
        assert "[DCMSEND]" in dcmtk("dcmdump", "+L", "+P", "0002,0016", path).stdout
        assert len(dcmtk("dcmdump", path).stdout.splitlines()) > 30
        assert private_information(path)["calling_ae_title"] == "DCMSEND"


def test_storescu_in_every_transfer_syntax_that_it_proposes(node, files, sent, tmp_path):
    proposed = {name: options for name, (_, _, options) in RECIPES.items() if options}
    for name, options in proposed.items():
        storescu(node, files[name], options=options)

    not_sent = digests(path for name, path in files.items() if name not in proposed)
    stored = visible(node)
    assert transfer_syntaxes(stored) == sorted(EXPECTED[name] for name in proposed)
    assert digests(stored) == sent - not_sent
    assert digests(node.restored(tmp_path / "back")) == sent - not_sent


def once_each(samples) -> Counter[str]:
    """Return each different Data Set once: the same bytes again are not a further version."""
    return Counter({sample.sha256 for sample in samples})


def test_every_file_of_pydicom_comes_back_after_a_restart(node, tmp_path):
    samples = pydicom_samples()
    assert len(samples) > 100
    assert len({sample.transfer_syntax_uid for sample in samples}) >= 12

    first = node.send(samples)
    node.restart()
    second = node.send(samples)  # nothing is doubled
    node.restart()

    refused = {
        sample.name: answer
        for sample, *answers in zip(samples, first, second, strict=True)
        for answer in answers
        if answer.status
    }
    assert refused == {}
    assert digests(visible(node)) == once_each(samples)
    assert digests(node.restored(tmp_path / "back")) == once_each(samples)
    node.cli("verify")


def test_files_of_pydicom_with_one_sop_instance_uid_are_versions(node, tmp_path):
    by_uid: dict[str, dict[str, Sample]] = defaultdict(dict)
    for sample in pydicom_samples():
        by_uid[sample.sop_instance_uid][sample.sha256] = sample
    duplicated = {uid: list(samples.values()) for uid, samples in by_uid.items() if len(samples) > 1}
    samples = [sample for several in duplicated.values() for sample in several]
    assert len(samples) > 10

    answers = node.send(samples)

    held = node.json("status", exit_code=None)["holdings"]
    restored = node.restored(tmp_path / "back")
    assert {answer.status for answer in answers} == {0}
    assert held["versions"] == len(samples) == len(restored)
    assert held["instances"] < held["versions"]
    assert digests(restored) == once_each(samples)


def test_orthanc_sends_what_it_has(node, start_orthanc, files, sent, tmp_path):
    orthanc = start_orthanc()
    if orthanc.version >= (1, 12):  # it decompresses, although the node takes all
        orthanc = start_orthanc(TranscodeDicomProtocol=False)
    others = [encode(ds).write(tmp_path / "others" / f"{n}.dcm") for n, ds in enumerate(one_of_each("2"))]
    identifiers = orthanc.upload(*files.values(), *others)
    orthanc.add_modality(node.remote)

    orthanc.echo(node.remote.name)
    orthanc.store(node.remote.name, identifiers)

    stored = visible(node)
    assert set(transfer_syntaxes(stored)) == set(EXPECTED.values())
    assert digests(stored) == sent + digests(others)
    assert digests(node.restored(tmp_path / "back")) == sent + digests(others)
    assert {private_information(path)["calling_ae_title"] for path in stored} == {"ORTHANC"}


# ------------------------------------------------------------------------------------------- private and unknown things


@pytest.mark.parametrize(
    "sop_class_uid",
    [PRIVATE_SOP_CLASS, "1.2.840.10008.5.1.4.1.1.999999", "1.3.46.670589.2.3.1.1"],
    ids=["private", "of a later standard", "of a maker"],
)
def test_an_unknown_sop_class_is_stored_and_found(node, sop_class_uid, tmp_path):
    sample = encode(dx(SOPClassUID=sop_class_uid))

    assert node.send([sample])[0].status == 0

    (answer,) = findscu(node, "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid, "SOPClassUID": ""})
    assert answer.SOPClassUID == sop_class_uid
    assert digests(node.restored(tmp_path / "back")) == {sample.sha256: 1}


def test_a_private_transfer_syntax_is_kept_under_the_command_set(node, tmp_path):
    opaque = Sample("opaque", PRIVATE_SOP_CLASS, "1.2.3.4.5", PRIVATE_TRANSFER_SYNTAX, bytes(range(256)) * 40)

    assert node.send([opaque])[0].status == 0

    (path,) = visible(node)
    meta = pydicom.filereader.read_file_meta_info(path)
    (answer,) = findscu(node, "IMAGE", {"SOPInstanceUID": "1.2.3.4.5", "SOPClassUID": ""})
    (remark,) = node.json("status", exit_code=None)["remarks"]
    assert meta.TransferSyntaxUID == PRIVATE_TRANSFER_SYNTAX
    assert (answer.SOPInstanceUID, answer.SOPClassUID) == ("1.2.3.4.5", PRIVATE_SOP_CLASS)
    assert remark["flags"] == ["unparsed"]
    assert digests(node.restored(tmp_path / "back")) == {opaque.sha256: 1}


def test_a_native_data_set_under_a_private_transfer_syntax_is_not_lost(node, tmp_path):
    native = encode(dx())
    private = dataclasses.replace(native, transfer_syntax_uid=PRIVATE_TRANSFER_SYNTAX)

    assert node.send([private])[0].status == 0

    assert len(findscu(node, "IMAGE", {"SOPInstanceUID": native.sop_instance_uid})) == 1
    assert digests(node.restored(tmp_path / "back")) == {native.sha256: 1}


@pytest.mark.parametrize("transfer_syntax_uid", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_data_set_in_another_encoding_than_negotiated_is_kept(node, transfer_syntax_uid, tmp_path):
    """A sender's bug: Explicit VR under an Implicit VR context, and the other way round."""
    other = {ImplicitVRLittleEndian: ExplicitVRLittleEndian, ExplicitVRLittleEndian: ImplicitVRLittleEndian}
    sample = encode(dx(), transfer_syntax_uid)
    mislabelled = dataclasses.replace(sample, transfer_syntax_uid=other[transfer_syntax_uid])

    assert node.send([mislabelled])[0].status == 0

    assert len(findscu(node, "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid})) == 1
    assert digests(node.restored(tmp_path / "back")) == {sample.sha256: 1}
