"""Data of earlier releases: this version opens it, changes the index, and gives back every image.

`tests/releases` has the data folder of a node of each release, as it was killed: three versions of one x-ray, another
one, and a series of CT; `sent.sha256` has the digest of each Data Set that it had acknowledged.
"""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from tests.processes import ROOT
from tests.system.contents import assert_index_equals_files, digests, visible

pytestmark = pytest.mark.system

_RELEASES = ROOT / "tests" / "releases"
_SENT = Counter((_RELEASES / "sent.sha256").read_text().split())
_ANSWERING = 5  # of seven versions two do not answer queries


@pytest.fixture(params=sorted(path.name.removesuffix(".tar.xz") for path in _RELEASES.glob("*.tar.xz")))
def node(request, start_node):
    """Return a stopped node with the data of a release."""
    found = start_node()
    found.stop()
    subprocess.run(["rm", "-rf", str(found.home)], check=True)
    archive = _RELEASES / f"{request.param}.tar.xz"
    subprocess.run(["tar", "--no-same-owner", "-C", str(found.home.parent), "-xf", str(archive)], check=True)
    return found


def test_a_node_opens_it_and_gives_back_all(node, tmp_path):
    node.start()

    node.cli("verify")
    assert digests(visible(node)) == _SENT
    assert_index_equals_files(node)
    node.cli("restore", "--to", f"{tmp_path}/out/", "--all")
    answering = digests((tmp_path / "out").rglob("*.dcm"))
    assert answering.total() == _ANSWERING
    assert not answering - _SENT


def test_its_files_alone_make_the_index_again(node):
    for file in node.home.glob("index.sqlite*"):
        file.unlink()

    node.cli("rebuild")
    node.start()

    node.cli("verify")
    assert digests(visible(node)) == _SENT
    assert_index_equals_files(node)


def test_commands_open_it_without_a_node(node):
    assert node.cli("verify").stdout.count("7 ")
    node.cli("db", "upgrade")
    assert len(node.cli("find", "--versions", "all", "--json").stdout.splitlines()) == _SENT.total()
