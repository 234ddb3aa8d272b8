"""An empty computer becomes a working node from each kind of copy; also from a bucket that a virus has overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup_scp.copies.cloud.sealing import make_keys
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import load
from backup_scp.services.rebuild import rebuild
from backup_scp.services.verify import verify
from tests.ceph import REGION, Gateway, ceph_gateway
from tests.copies.remotes import NAME, webdav_remote
from tests.processes import peer_missing, wait_until
from tests.samples import Sample, ct_series, dx, encode, secondary_capture
from tests.system.contents import digests, visible
from tests.system.node import Node
from tests.system.test_pull import PLUGIN
from tests.system.test_recover import Clinic, files, recover, rows

PAIR = make_keys()
KEY = ("--key", PAIR.recovery_key.lower())
SAMPLES = [
    *(encode(ds) for ds in ct_series(4)),
    encode(dx(PixelData=bytes(2**20))),
    *(encode(secondary_capture(study="sc", series=str(number))) for number in range(3)),
]


@dataclass(frozen=True)
class Kind:
    """A kind of copy.

    `settings` are those of its ``[[copy]]``; `source` and `options` is what a person types; `is_ours` tells whether the
    files come back as they were, arrivals and all.
    """

    name: str
    settings: Mapping[str, object]
    source: str
    options: tuple[str, ...] = ()
    is_ours: bool = True


class ManyCopies(Clinic):
    """A clinic with a node and copies of given kinds, that loses the node."""

    def __init__(self, make_node: Callable[..., Node], kinds: list[Kind]) -> None:
        self.make_node, self.kinds = make_node, kinds
        copies = [{"name": kind.name, **kind.settings} for kind in kinds]
        self.node = make_node(copies=copies, ae_title="CLINIC")
        self.node.start()

    def copy(self, samples: Iterable[Sample]) -> None:
        """Send samples, and wait until each copy has them, and can stand alone."""
        assert not any(answer.status for answer in self.node.send(samples))
        for kind in self.kinds:
            if str(kind.settings.get("url")).startswith("file:"):
                self.node.cli("copies", "init", kind.name, "--same-disk")
        wait_until(self._is_complete, timeout_s=120, what="every copy has everything")
        self.node.cli("copies", "sync")  # which writes the index there too

    def recovered(self, kind: Kind, *more: str) -> Node:
        node = self.make_node(ae_title="CLINIC")
        said = recover(node, kind.source, *kind.options, *more)
        if kind.is_ours:
            assert f"The archive is whole again: {len(SAMPLES)} images" in said
        return node


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with ceph_gateway() as running:
        yield running


def drive(folder: Path, name: str, **more: object) -> Kind:
    return Kind(name, {"url": f"file://{folder / name}", **more}, str(folder / name), KEY if more else ())


def bucket(folder: Path, gateway: Gateway) -> Kind:
    """Return a sealed copy in a new bucket that keeps versions; what is typed besides the URL ends with the key."""
    (secret := folder / "secret").write_text(gateway.node_secret)
    url = f"s3://{gateway.make_bucket(lock_days=30)}/x-rays"
    access = {"endpoint": gateway.endpoint, "region": REGION, "access_key": gateway.node_key}
    typed = [word for name, value in access.items() for word in (f"--{name.replace('_', '-')}", value)]
    settings = {"url": url, **access, "secret_key_file": str(secret), "encrypt": [PAIR.public_key]}
    return Kind("bucket", settings, url, (*typed, "--secret-key-file", str(secret), *KEY))


@pytest.fixture
def kinds(tmp_path, gateway) -> Iterator[list[Kind]]:
    """Yield the copies of each kind."""
    (server := tmp_path / "server").mkdir()
    with ExitStack() as stack:
        remote = stack.enter_context(webdav_remote(server))
        config = {"rclone_config": str(remote.config)}
        yield [
            drive(tmp_path, "drive"),
            drive(tmp_path, "sealed", encrypt=[PAIR.public_key]),
            bucket(tmp_path, gateway),
            Kind("rclone", {"url": f"rclone:{NAME}:x-rays", **config}, f"rclone:{NAME}:x-rays",
                 ("--rclone-config", str(remote.config))),
        ]  # fmt: skip


@pytest.fixture
def fill_others(tmp_path, start_orthanc) -> Callable[[Node], list[Kind]]:
    """Return a function that gives a node's images to what is no copy of ours: another PACS, a folder of old files."""
    if not PLUGIN.exists():
        peer_missing("orthanc-dicomweb")
    pacs = start_orthanc(Plugins=[str(PLUGIN)])

    def fill(node: Node) -> list[Kind]:
        pacs.upload(*node.restored(folder := tmp_path / "old files"))
        sources = {
            "pacs": f"{pacs.ae_title}@{pacs.host}:{pacs.port}",
            "web pacs": f"dicomweb+http://{pacs.host}:{pacs.http_port}/dicom-web",
            "folder": str(folder),
        }
        return [Kind(name, {}, source, is_ours=False) for name, source in sources.items()]

    return fill


def receipt_of(node: Node, kind: Kind) -> dict[str, Any]:
    """Return the receipt of a recovery, which names each study and how many images of it are here."""
    receipt = json.loads((node.home / "recovery-receipt.json").read_text())
    assert receipt["facts"]["from"] == kind.source
    assert sum(row["images"] for row in receipt["rows"]) == len(SAMPLES)
    assert (node.home / "recovery-receipt.pdf").read_bytes().startswith(b"%PDF-")
    assert (node.home / "recovery-receipt.txt").stat().st_mode & 0o077 == 0
    return receipt


def verify_and_rebuild(node: Node) -> None:
    """Do what these commands do, without the start of a program."""
    with OpenStores(load(node.config, node.env)) as storage:
        found = verify(storage.archive, storage.index)
        assert (found.intact, found.needs_a_person) == (len(SAMPLES), False)
        assert rebuild(storage.archive, storage.index).entered == len(SAMPLES)


@pytest.mark.timeout(400)
def test_everything_is_back_as_it_was(make_node, kinds, fill_others):
    """One clinic with a copy of each kind: its start, and the servers', are most of the time."""
    clinic = ManyCopies(make_node, kinds)
    clinic.copy(SAMPLES)
    others = fill_others(clinic.node)
    told, before = rows(clinic.node), clinic.lose()
    for kind in [*kinds, *others]:
        try:
            node = clinic.recovered(kind)
            there = rows(node)
            if kind.is_ours:
                assert files(node) == before
                assert there == told
            assert digests(visible(node)) == {sample.sha256: 1 for sample in SAMPLES}
            assert receipt_of(node, kind)["complete"]
            verify_and_rebuild(node)
            assert rows(node) == there
        except AssertionError as error:
            error.add_note(f"The kind of copy is {kind.name}")
            raise


def test_everything_is_back_as_of_the_moment_before_a_virus(make_node, tmp_path, gateway):
    clinic = ManyCopies(make_node, [kind := bucket(tmp_path, gateway)])
    clinic.copy(SAMPLES)
    before, owner = clinic.lose(), gateway.owner()
    name = kind.source.split("/")[2]
    stored = owner.list_objects_v2(Bucket=name)["Contents"]
    newest = max(each["LastModified"] for each in stored)
    wait_until(lambda: datetime.now(UTC) > newest + timedelta(seconds=2), what="a later second")
    for number, each in enumerate(stored):
        if number % 2:
            owner.put_object(Bucket=name, Key=each["Key"], Body=b"ransom")
        else:
            owner.delete_object(Bucket=name, Key=each["Key"])
    moment = (newest + timedelta(seconds=1)).astimezone()
    node = clinic.recovered(kind, "--as-of", f"{moment:%Y-%m-%dT%H:%M:%S}")
    assert files(node) == before


def test_what_a_folder_lacks_is_in_the_receipt(make_node, tmp_path):
    (old := tmp_path / "old files").mkdir()
    whole, cut = (encode(dx(study=name, PixelData=bytes(2**16))) for name in ("whole", "cut"))
    whole.write(old / "1.dcm")
    cut.write(old / "2.dcm")
    (old / "2.dcm").write_bytes((old / "2.dcm").read_bytes()[:-999])
    (old / "3.zip").write_bytes(b"PK\x03\x04 cut off")
    node = make_node()
    said = recover(node, old, "--throttle", "900", "--json", exit_code=1)
    assert json.loads(said)["missing"] == 1
    receipt = json.loads((node.home / "recovery-receipt.json").read_text())
    assert not receipt["complete"]
    assert len(receipt["rows"]) == 2
    (lost, short) = sorted(receipt["problems"], reverse=True)
    assert "3.zip" in lost
    assert "2.dcm: the file ends too early" in short
