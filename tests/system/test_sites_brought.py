"""A second node that copies to this one brings its sites along, by DICOM and DICOMweb, and gets them back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.samples import data_set_bytes, dx, encode
from tests.system.contents import private_information, visible
from tests.system.node import Node, Remote
from tests.system.peers import findscu, storescu
from tests.system.web import web_address, web_node

NORTH = encode(dx(study="north", PatientName="NORTH^A", PatientID="P1"))
EAST = encode(dx(study="east", PatientName="EAST^B", PatientID="P1"))
BOTH = encode(dx(study="both", PatientName="BOTH^C", PatientID="P2"))
WEST = encode(dx(study="west", PatientName="WEST^D", PatientID="P3"))
PLAIN = encode(dx(study="plain", PatientName="PLAIN^E", PatientID="P4"))
SENT = {"NORTH": (NORTH, BOTH), "EAST": (EAST, BOTH), "NOBODY": (PLAIN,)}
KEPT = {("north", NORTH.sha256), ("north", BOTH.sha256), ("east", EAST.sha256), ("east", BOTH.sha256)}
DEVICES = [Remote(site, site.upper(), 104, site=site) for site in ("north", "east", "west")]
BROUGHT = ("north", "east")
TOKEN = "b" * 32


def sites(node: Node) -> set[tuple[str, str]]:
    """Return site and digest of each image, as its file says."""
    return {(said["site"], said["sha256"]) for said in map(private_information, visible(node))}


def send(node: Node, folder: Path, sent=None) -> None:
    for calling, samples in (sent or SENT).items():
        files = [one.write(folder / calling / f"{number}.dcm") for number, one in enumerate(samples)]
        storescu(node, *files, calling=calling)


def settled(node: Node, held: int) -> dict:
    """Wait until a copy has so many images; return what ``copies`` says of it."""
    wait_until(lambda: node.json("copies", exit_code=None)[0]["held"] == held, what="the copies")
    return node.json("copies", exit_code=None)[0]


@pytest.fixture
def pair(make_node):
    """Two nodes, not started: what is here is copied to there by DICOM."""
    here, there = make_node(ae_title="HERE"), make_node(ae_title="THERE")
    here.remotes = [*DEVICES, replace(there.remote, brings_sites=BROUGHT)]
    there.remotes = [replace(here.remote, site="guest", brings_sites=BROUGHT), *DEVICES]
    here.copies = [{"name": "away", "url": f"dicom://THERE@{there.host}:{there.port}"}]
    return here, there


@pytest.fixture
def web_pair(make_node, tmp_path):
    """The same by DICOMweb."""
    tokens, token = tmp_path / "tokens", tmp_path / "token"
    tokens.write_text(f"{TOKEN} guest,north,east brings\n{'w' * 32} west\n")
    token.write_text(TOKEN)
    there = web_node(make_node, {"token_file": str(tokens)}, ae_title="THERE", remotes=DEVICES)
    there.settings["node"] = {"trust_this_machine": False}
    there.start()
    here = make_node(ae_title="HERE", remotes=DEVICES)
    url = f"dicomweb+{web_address(there)}"
    here.copies = [{"name": "away", "url": url, "token_file": str(token), "brings_sites": list(BROUGHT)}]
    return here, there


def lose(node: Node) -> None:
    """Lose everything but the settings."""
    node.stop()
    shutil.rmtree(node.home / "archive")
    for file in node.home.glob("index*"):
        file.unlink()


def names(answers) -> list[str]:
    return sorted(str(answer.PatientName) for answer in answers)


class TestByDICOM:
    def test_there_each_image_is_of_its_own_clinic(self, pair, tmp_path):
        here, there = pair
        there.start()
        here.start()
        send(here, tmp_path)
        settled(here, 5)
        assert sites(there) == KEPT | {("guest", PLAIN.sha256)}
        asked = {"PatientName": "", "PatientID": ""}
        assert names(findscu(there, "STUDY", asked, calling="NORTH")) == ["BOTH^C", "NORTH^A"]
        assert names(findscu(there, "STUDY", asked, calling="EAST")) == ["BOTH^C", "EAST^B"]
        assert findscu(there, "STUDY", asked, calling="WEST") == []
        assert names(findscu(there, "STUDY", asked, calling="HERE")) == ["PLAIN^E"]
        compared = here.json("copies", "verify", "away")
        assert str(compared).count("'damaged': 0") == 1

    def test_what_is_pulled_back_is_of_its_own_clinic(self, pair, tmp_path):
        here, there = pair
        there.start()
        here.start()
        send(here, tmp_path)
        settled(here, 5)
        lose(here)
        here.copies = []
        here.start()
        assert here.json("pull", "there")["fetched"] == 5
        assert sites(here) == KEPT | {("", PLAIN.sha256)}
        assert here.json("pull", "there")["fetched"] == 0

    def test_what_is_restored_is_of_its_own_clinic(self, pair, tmp_path):
        here, there = pair
        there.start()
        here.start()
        send(here, tmp_path)
        settled(here, 5)
        lose(here)
        here.copies = []
        here.remotes = [*DEVICES, replace(there.remote, brings_sites=(*BROUGHT, "guest"))]
        there.remotes[0] = replace(there.remotes[0], brings_sites=(*BROUGHT, "guest"))
        there.restart()
        here.start()
        there.cli("restore", "--to", "here", "--all", "--commit")
        assert sites(here) == KEPT | {("guest", PLAIN.sha256)}

    def test_a_damaged_image_is_healed_as_one_of_its_clinic(self, pair, tmp_path):
        here, there = pair
        there.start()
        here.start()
        send(here, tmp_path)
        settled(here, 5)
        (damaged,) = (path for path in visible(here) if private_information(path)["sha256"] == EAST.sha256)
        damaged.chmod(0o600)
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
        assert len(here.json("verify", exit_code=1)["damaged"]) == 1
        here.cli("copies", "sync")
        assert here.json("verify")["damaged"] == []
        assert sites(here) == KEPT | {("", PLAIN.sha256)}
        assert len(visible(here)) == 5

    def test_a_clinic_that_is_not_named_cannot_be_brought(self, pair, tmp_path):
        """The sender claims more than it may: nothing of it is stored, and both sides say why."""
        here, there = pair
        here.remotes[-1] = replace(here.remotes[-1], brings_sites=(*BROUGHT, "west"))
        there.start()
        here.start()
        send(here, tmp_path, SENT | {"WEST": (WEST,)})
        wait_until(lambda: here.json("copies", exit_code=None)[0]["error"], what="the refusal")
        said = settled(here, 5)
        assert (said["due"], "takes no images that this node brings for clinic west" in said["error"]) == (1, True)
        assert sites(there) == KEPT | {("guest", PLAIN.sha256)}
        assert "it may not bring images of clinic 'west'" in there.output
        assert "add it to brings_sites of [[remote]] here" in there.output

    def test_a_clinic_that_is_not_named_is_not_sent(self, pair, tmp_path):
        here, there = pair
        there.start()
        here.start()
        send(here, tmp_path, {"NORTH": (NORTH,), "WEST": (WEST,)})
        said = settled(here, 1)
        wait_until(lambda: here.json("copies", exit_code=None)[0]["error"], what="the refusal")
        said = here.json("copies", exit_code=None)[0]
        assert "Its clinic west is not in brings_sites of [[remote]] there" in said["error"]
        assert sites(there) == {("north", NORTH.sha256)}

    def test_who_does_not_know_of_clinics_is_sent_nothing_of_them(self, pair, tmp_path):
        here, there = pair
        there.remotes[0] = replace(there.remotes[0], brings_sites=())
        there.start()
        here.start()
        send(here, tmp_path)
        said = settled(here, 1)
        assert said["due"] == 4
        assert sites(there) == {("guest", PLAIN.sha256)}

    def test_without_the_setting_all_are_of_one_clinic_as_before(self, pair, tmp_path):
        here, there = pair
        here.remotes[-1] = there.remote
        there.start()
        here.start()
        send(here, tmp_path, {"NORTH": (NORTH,), "EAST": (EAST,)})
        settled(here, 2)
        assert sites(there) == {("guest", NORTH.sha256), ("guest", EAST.sha256)}


class TestByDICOMweb:
    def test_there_and_back(self, web_pair, tmp_path):
        here, there = web_pair
        here.start()
        send(here, tmp_path)
        settled(here, 5)
        assert sites(there) == KEPT | {("guest", PLAIN.sha256)}
        lose(here)
        here.start()
        assert here.json("pull", "away")["fetched"] == 5
        assert sites(here) == KEPT | {("", PLAIN.sha256)}
        assert here.json("pull", "away")["fetched"] == 0
        assert data_set_bytes(next(iter(visible(here))))

    def test_a_clinic_that_is_not_named_cannot_be_brought(self, web_pair, tmp_path):
        here, there = web_pair
        here.copies[0]["brings_sites"] = [*BROUGHT, "west"]
        here.start()
        send(here, tmp_path, SENT | {"WEST": (WEST,)})
        wait_until(lambda: here.json("copies", exit_code=None)[0]["error"], what="the refusal")
        said = settled(here, 5)
        assert (said["due"], "does not take images of clinic west" in said["error"]) == (1, True)
        assert sites(there) == KEPT | {("guest", PLAIN.sha256)}
