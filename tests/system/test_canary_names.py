"""Fifty patients that nobody is: whatever is done with their images, they are named only where that is the purpose."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.samples import Sample, dx, encode, unparsable, with_pixels, with_value
from tests.system import raw_sender
from tests.system.peers import movescu
from tests.system.pynetdicom_peers import find
from tests.system.test_web_process import web_processes
from tests.system.web import ENABLED, web_address
from tests.web.stow.bodies import CONTENT_TYPE, body

SCRIPTS = (
    ("ISO_IR 192", "Zqvarga{n}^Äöxle", "utf-8"),
    ("ISO_IR 100", "Zqvarga{n}^Jörgzß", "latin-1"),
    ("ISO_IR 144", "Zqvarga{n}^Люксемб", "iso8859-5"),
    ("GB18030", "Zqvarga{n}^王小东", "gb18030"),
    ("ISO_IR 166", "Zqvarga{n}^นามสกุล", "cp874"),
)
MAY_NAME = {
    "archive": "the images",
    "index.sqlite": "the index, which answers queries by names",
    "cache": "derived of images, can be made again (docs/web.md)",
    "audit": "Patient IDs, as PS3.15 A.5.3 asks; names are looked for below",
    "accounts.sqlite": "users, and the studies of share links",
}


@dataclass(frozen=True)
class Canary:
    """A patient, and how it can be recognised."""

    number: int

    @property
    def script(self) -> tuple[str, str, str]:
        return SCRIPTS[self.number % len(SCRIPTS)]

    @property
    def name(self) -> str:
        return self.script[1].format(n=f"{self.number:02d}")

    @property
    def values(self) -> dict[str, str]:
        n = f"{self.number:02d}"
        return {
            "PatientName": self.name,
            "PatientID": f"ZQID{n}",
            "PatientBirthDate": f"1843{1 + self.number % 12:02d}{1 + self.number % 28:02d}",
            "AccessionNumber": f"ZQACC{n}",
            "ReferringPhysicianName": f"Zqdoctor{n}^Kurt",
            "PerformingPhysicianName": f"Zqsurgeon{n}",
            "StudyDescription": f"zqnote{n} fell from a ladder",
            "PatientComments": f"zqfree{n} lives alone",
            "StudyID": f"ZQS{n}",
        }

    def sample(self) -> Sample:
        values = {"study": f"canary.{self.number}", "SpecificCharacterSet": self.script[0], **self.values}
        made = encode(with_pixels(dx(**values)))
        return with_value(made, "PatientName", self.name.encode(self.script[2]))


CANARIES = [Canary(number) for number in range(50)]
FIRST = re.compile(rb"zq(?:varga|id|acc|doctor|surgeon|note|free|s)\d\d|(?<![\d.])1843\d{4}(?![\d.])", re.IGNORECASE)
OTHERS = {
    given.encode(codec) for _, name, script in SCRIPTS for given in [name.split("^")[1]] for codec in ("utf-8", script)
}
NAMES_ALONE = re.compile(rb"zq(?:varga|doctor|surgeon|note|free)\d\d|(?<![\d.])1843\d{4}(?![\d.])", re.IGNORECASE)


def named_in(data: bytes | str) -> list[bytes]:
    """Return what names a canary: searched for in any case, and by scripts."""
    data = data.encode() if isinstance(data, str) else data
    return sorted({found.group() for found in FIRST.finditer(data)} | {other for other in OTHERS if other in data})


def names_of(folder: Path) -> str:
    return "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*"))


def unexpected(home: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Yield each file that names a canary and has no reason to."""
    for path in home.rglob("*"):
        inside = path.relative_to(home).as_posix()
        if not path.is_file() or inside.startswith(tuple(MAY_NAME)):
            continue
        if found := named_in(path.read_bytes()):
            yield inside, found


@dataclass
class Told:
    """What commands, answers and processes said."""

    said: list[tuple[str, str]] = field(default_factory=list)
    problems: int = 0

    def command(self, node, *arguments, exit_code=None) -> None:
        done = node.cli(*arguments, exit_code=exit_code)
        self.said.append((f"backup-scp {arguments[0]}", done.stdout + done.stderr))

    def answer(self, response: httpx2.Response) -> None:
        """Keep headers and the title of a page; of a problem all."""
        shown = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        shown += "".join(re.findall(r"<title>.*?</title>", response.text, re.DOTALL))
        if response.status_code >= 400:
            self.problems += 1
            shown += re.sub(r'href="[^"]*"', "", response.text)  # links to itself repeat the address that was typed
        self.said.append((f"{response.status_code} of {response.url.path}", shown))


@pytest.fixture
def node(make_node, tmp_path, storescp):
    copies = tmp_path / "copies"
    copies.mkdir()
    node = make_node(
        env=ENABLED | {"TMPDIR": str(tmp_path / "temporary")},
        settings={"web": {"port": 0}, "log": {"level": "DEBUG"}},
        remotes=[storescp.remote],
        copies=[{"name": "disk", "url": f"file://{copies}"}],
    )
    (tmp_path / "temporary").mkdir()
    node.start()
    return node


def bring_in(node, folder: Path, told: Told) -> None:
    """Bring the canaries: by C-STORE, STOW-RS and an import, and images that are refused."""
    by_dimse, by_web, by_file = CANARIES[:17], CANARIES[17:34], CANARIES[34:]
    bad = with_value(CANARIES[0].sample(), "SOPInstanceUID", b"1.2.3.4")
    for sample in (*(one.sample() for one in by_dimse), bad, unparsable()):
        with raw_sender.Association(node, [(sample.sop_class_uid, (sample.transfer_syntax_uid,))]) as peer:
            told.said.append(("C-STORE", peer.store(sample).error_comment))
    files = [one.sample().file_bytes() for one in by_web]
    content = body(*files, bad.file_bytes(), CANARIES[1].name.encode(), files[0][:900])
    headers = {"content-type": CONTENT_TYPE}
    stored = httpx2.post(f"{web_address(node)}/studies", content=content, headers=headers, timeout=60)
    told.said.append(("STOW-RS", stored.text))
    for one in by_file:
        one.sample().write(folder / f"{one.name} {one.values['PatientID']}.dcm")
    (folder / f"{CANARIES[2].name}.txt").write_text(CANARIES[2].name)
    (folder / f"broken {CANARIES[2].name}.dcm").write_bytes(by_file[0].sample().file_bytes()[:700])
    node.cli("import", folder, exit_code=None)  # names files that it could not take: they are the user's own


def ask(node, told: Told) -> None:
    """Ask for canaries, well and badly."""
    web, page = web_address(node), web_address(node).removesuffix("/dicom-web")
    with httpx2.Client(timeout=60) as client:
        for one in CANARIES[::7]:
            keys = {"PatientName": "Zqvarga" + f"{one.number:02d}*", "PatientID": one.values["PatientID"]}
            assert len(find(node, "STUDY", {**keys, "StudyInstanceUID": ""}).matches) == 1
            found = client.get(f"{web}/studies", params={"PatientID": one.values["PatientID"]})
            assert len(found.json()) == 1
            study = found.json()[0]["0020000D"]["Value"][0]
            told.answer(found)
            for path in (f"/studies?patient={one.values['PatientID']}", f"/study?uid={study}", "/", "/metrics"):
                shown = client.get(f"{page}{path}")
                assert shown.status_code == 200
                told.answer(shown)
                if path in ("/", "/metrics"):
                    told.said.append((path, shown.text))
            bad = f"{web}/studies/{one.name}", f"{web}/x/{one.name}", f"{page}/{one.name}", f"{page}/share/{one.name}"
            for url in (*bad, f"{web}/studies/{study}/rendered", f"{page}/study?uid={one.name}"):
                told.answer(client.get(url))
            for params in ({"PatientName": one.name, one.name: "1"}, {"StudyDate": one.name}, {"limit": one.name}):
                told.answer(client.get(f"{web}/studies", params=params))
    assert told.problems > 40
    moved = movescu(node, "NOWHERE", "STUDY", {"StudyInstanceUID": study})
    assert moved.status
    assert movescu(node, "SINK", "STUDY", {"StudyInstanceUID": study}).status == 0
    find(node, "STUDY", {"StudyDate": CANARIES[3].name.split("^")[0], "PatientName": CANARIES[3].name.split("^")[0]})


def test_canaries_are_named_nowhere_else(node, tmp_path):
    told = Told()
    (folder := tmp_path / "stick").mkdir()
    (tmp_path / "back").mkdir()
    bring_in(node, folder, told)
    ask(node, told)
    told.command(
        node, "restore", "--patient-id", CANARIES[5].values["PatientID"], "--to", tmp_path / "back/x", exit_code=0
    )
    for number, place in ((5, tmp_path / "back/x"), (6, "SINK")):
        told.command(node, "restore", "--patient-id", CANARIES[number].values["PatientID"], "--to", place, exit_code=0)
    told.command(node, "copies", "sync", exit_code=None)
    told.command(node, "status")
    told.command(node, "status", "--json")
    told.command(node, "check")
    told.command(node, "verify")
    for pid in (node.pid, *web_processes(node)):
        told.said.append(("process", Path(f"/proc/{pid}/cmdline").read_bytes().decode()))
    node.stop()

    messages = b"".join(path.read_bytes() for path in (node.home / "audit").glob("audit-*.log"))
    assert messages.count(b"<AuditMessage>") > 100
    for event in (b"110100", b"110102", b"110103", b"110104", b"110106", b"110107", b"110112", b"110113"):
        assert b'<EventID csd-code="' + event in messages
    assert NAMES_ALONE.findall(messages) == []
    asked = b"".join(base64.b64decode(one) for one in re.findall(rb"<ParticipantObjectQuery>([^<]*)<", messages))
    assert NAMES_ALONE.search(asked), "a query is kept as it came (PS3.15 A.5.3.10)"
    named = [(what, found) for what, text in told.said if (found := named_in(text))]
    assert named == [], named
    assert list(unexpected(node.home)) == []
    assert named_in(node.output) == []
    for place in (node.home, tmp_path / "copies", tmp_path / "back", tmp_path / "temporary"):
        assert named_in(names_of(place)) == [], place
    assert list(unexpected(tmp_path / "temporary")) == []


def test_the_search_would_find_a_name():
    assert named_in("Association of Zqvarga07") == [b"Zqvarga07"]
    assert named_in(CANARIES[3].name.split("^")[1].encode("gb18030"))
    assert named_in("born 18430203 in")
    assert len(CANARIES) == 50
