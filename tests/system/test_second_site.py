"""docs/second-site.md, as it is written: two nodes, two certificates, and each image in both places."""

from __future__ import annotations

import re
import shutil

import pytest

from backup_scp.errors import DestinationUnavailable
from backup_scp.node.copy_places import open_place
from backup_scp.node.settings import load
from tests.processes import LOOPBACK, ROOT, connects, free_port, wait_until
from tests.samples import data_set_bytes, encode, one_of_each
from tests.stored import stored_in
from tests.system.contents import digests, visible
from tests.system.here import Here
from tests.system.node import Node

PAGE = (ROOT / "docs" / "second-site.md").read_text()
(COMMAND,) = re.findall(r"^    backup-scp (tls init .*)$", PAGE, re.MULTILINE)
THERE, HERE, DICOMWEB = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


class Site(Node):
    """A node with the settings of the page; the two hosts are this machine, and the ports are free ones."""

    def __init__(self, folder, name: str, page: str) -> None:
        super().__init__(folder, ae_title=name.upper())
        self.name, self.page, self.tls_port = name, page, free_port()
        self.home.mkdir()
        super().write_settings()
        self.cli(*COMMAND.replace("there.example", LOOPBACK).split())

    def trust(self, other: Site) -> None:
        shutil.copyfile(other.home / "tls" / "ca.pem", self.home / "other-ca.pem")
        page = re.sub(r"\b(here|there)\.example", LOOPBACK, self.page)
        page = page.replace("2762", str(other.tls_port))
        page = page.replace("[node]\n", f'[node]\nhost = "{LOOPBACK}"\nport = {self.port}\n')
        self.config.write_text(page.replace("[tls]\n", f"[tls]\nport = {self.tls_port}\n"))

    def write_settings(self) -> None:
        """Leave them as the page has them."""


@pytest.fixture
def sites(tmp_path, processes):
    here, there = (Site(tmp_path / name, name, page) for name, page in (("here", HERE), ("there", THERE)))
    for site, other in ((here, there), (there, here)):
        site.trust(other)
        processes.add(site.process)
    yield here, there
    for site in (here, there):
        site.close()


def start(site: Site) -> None:
    site.start()
    wait_until(lambda: connects(site.tls_port), what="the port with TLS")


def test_the_page_sets_up_both_ends(sites, tmp_path):
    here, there = sites
    start(there)
    start(here)
    here.cli("echo", "there")
    samples = [encode(ds) for ds in one_of_each()]
    assert {answer.status for answer in here.send(samples)} == {0}
    wait_until(lambda: [copy["held"] for copy in here.json("copies")] == [len(samples)], what="the copies")
    assert digests(visible(there)) == digests(visible(here))

    here.stop()
    shutil.rmtree(here.home / "archive")
    for file in here.home.glob("index*"):
        file.unlink()
    start(here)  # a new computer
    there.cli("restore", "--to", "here", "--all", "--commit")
    back = here.restored(tmp_path / "back")
    assert {data_set_bytes(path) for path in back} == {sample.data_set for sample in samples}


def test_who_has_another_certificate_is_refused(sites, tmp_path):
    here, there = sites
    shutil.copyfile(there.home / "tls" / "ca.pem", there.home / "other-ca.pem")  # of itself: it does not trust us
    start(there)
    with stored_in(here.home) as stored:
        ours = Here(here.home, stored)
        ours.settings = load(here.config, {"BACKUP_SCP_HOME": str(here.home)})
        with pytest.raises(DestinationUnavailable):
            ours.copy(ours.put(encode(one_of_each()[0])))
    assert visible(there) == []


def test_the_settings_for_dicomweb_are_ones(tmp_path):
    file = tmp_path / "backup-scp.toml"
    file.write_text(DICOMWEB)
    (tmp_path / "pacs-password").write_text("secret\n")
    with stored_in(tmp_path) as stored:
        settings = load(file, {"BACKUP_SCP_HOME": str(tmp_path)})
        place = open_place(settings, settings.copy[0], stored.index)
    assert (place.name, place.is_off_site) == ("cloud pacs", True)
