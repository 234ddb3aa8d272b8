"""docs/migrate.md, typed as it says: from Orthanc and dcmqrscp, to a bigger disk and to another machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.samples import Sample, ct_series, data_set_bytes, dx, encode, pydicom_samples
from tests.system.contents import visible
from tests.system.peers import DcmQRSCP, storescu

(JPEG,) = (sample for sample in pydicom_samples() if sample.name == "MR_small_jpeg_ls_lossless.dcm")
NATIVE = [*(encode(ds) for ds in ct_series(4)), encode(dx(study="new", StudyDate="20260110"))]


def written(folder: Path, samples: list[Sample]) -> list[Path]:
    folder.mkdir()
    return [sample.write(folder / f"{number}.dcm") for number, sample in enumerate(samples)]


def data_sets(samples) -> list[bytes]:
    return sorted(sample.data_set for sample in samples)


def archived(node) -> list[bytes]:
    return sorted(map(data_set_bytes, visible(node)))


def test_the_storage_folder_of_orthanc_is_imported(make_node, start_orthanc, tmp_path):
    there, here = start_orthanc(), make_node()
    there.upload(*written(tmp_path / "files", [*NATIVE, JPEG]))
    there.stop()
    done = here.json("import", tmp_path / "orthanc1" / "storage")
    assert (done["new"], done["failed"], done["truncated_count"]) == (6, [], 0)
    assert archived(here) == data_sets([*NATIVE, JPEG])


def test_a_compressed_storage_folder_of_orthanc_has_no_dicom_files_and_a_pull_brings_it(
    make_node, start_orthanc, tmp_path
):
    there, here = start_orthanc(StorageCompression=True), make_node()
    there.upload(*written(tmp_path / "files", NATIVE))
    done = here.json("import", tmp_path / "orthanc1" / "storage")
    assert (done["new"], done["failed"]) == (0, [])
    assert done["skipped_by_reason"]["Not a DICOM file"] >= 5
    pulled = here.json("pull", f"ORTHANC@{there.host}:{there.port}")
    assert (pulled["studies"], pulled["complete"]) == (2, 2)
    assert archived(here) == data_sets(NATIVE)


def test_the_storage_folder_of_dcmqrscp_is_imported(make_node, processes, tmp_path):
    there, here = DcmQRSCP(tmp_path / "dcmqrscp"), make_node()
    processes.add(there.process)
    there.start()
    storescu(there, *written(tmp_path / "files", NATIVE))
    done = here.json("import", there.storage)
    assert (done["new"], done["failed"], len(done["skipped"])) == (5, [], 1)  # index.dat
    assert archived(here) == data_sets(NATIVE)


@pytest.mark.parametrize("moved", ["archive", "home"])
def test_a_bigger_disk_and_another_machine(make_node, tmp_path, moved):
    """Stop, copy, set the folder, start; the old disk is away then."""
    node = make_node()
    node.start()
    node.send(NATIVE)
    node.stop()
    old = node.home / "archive" if moved == "archive" else node.home
    new = tmp_path / "bigger disk"
    shutil.copytree(old, new, symlinks=True)
    old.rename(tmp_path / "unplugged")
    if moved == "archive":
        node.settings["archive"] = {"url": str(new)}
    else:
        node.env["BACKUP_SCP_HOME"] = node.process.env["BACKUP_SCP_HOME"] = str(new)
    node.start()
    assert node.json("verify")["damaged"] == []
    assert sum(int(study["NumberOfStudyRelatedInstances"]) for study in _found(node)) == 5
    node.send([encode(dx(study="later"))])
    node.stop()
    assert len(list(new.rglob("*.dcm"))) == 6


def _found(node) -> list[dict[str, str]]:
    return [json.loads(line) for line in node.cli("find", "--json").stdout.splitlines()]
