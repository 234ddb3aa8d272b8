"""Measure this node beside Orthanc and dcmqrscp, in turns, and print medians and ratios as Markdown.

Each repeat starts every node fresh, on empty folders, in another order.  Needs Debian's orthanc and dcmtk; the part
`tls` needs trustme, and `postgres` PostgreSQL.  Only ratios within one run mean anything on a machine that is shared.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from backup_scp.index.connection.migrate import upgrade
from benchmarks import certificates, images, limits, load, nodes, postgres
from benchmarks.images import CT, DR, TINY, Instance, Kind
from benchmarks.nodes import BackupSCP, DcmQRSCP, Node, Orthanc, Place
from benchmarks.table import Table

OURS, DISK = BackupSCP.name, "this machine"
PLAIN, OTHERWISE = f"{OURS}, plain", f"{OURS}, with it"
_ASSOCIATIONS = 200
_WARMING = TINY.in_study
_MOST_OF_DCMQRSCP = 400
_MODALITY_PDU = 16_384
_JPEG_LOSSLESS, _NATIVE = "1.2.840.10008.1.2.4.70", (load.EXPLICIT, load.IMPLICIT)
_TRANSCODED = dataclasses.replace(CT, in_study=200)
_RETRIEVED = 3
_FILE_AND_FSYNC = "15 MB file + fsync"
_ALL = ("start", "dr", "ct", "tiny", "find", "tls", "pdu", "postgres", "large", "transcoded")
_ALL_STUDIES = dataclasses.replace(TINY, in_study=1)

_AIMS = {
    "DR": {"1": "3", "4": "2", "each": "1.3", "retrieve": "2; dcmqrscp's", "cpu": "at most 0.5"},
    "CT": {"1": "1.8", "4": "1.8", "each": "1.2", "retrieve": "1.5; dcmqrscp's", "cpu": "at most 0.5"},
    "tiny": {"1": "1.5", "4": "1.5", "each": "1"},
}
"""What is aimed at: ratios to Orthanc."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """How much is sent."""

    instances: dict[str, int]
    studies: int
    large_mb: int

    def of(self, kind: Kind, share: int = 1) -> list[Instance]:
        """Make new instances of a kind, or a share of their number."""
        return images.new(kind, max(1, self.instances[kind.name] // share))


class SideBySide:
    """One run: its tables, and what the nodes are told."""

    def __init__(self, folder: Path, counts: Counts, sink_port: int) -> None:
        self._folder, self._counts, self._sink_port = folder, counts, sink_port
        self._started = self._turn = 0
        self.peers = Table([Orthanc.name, DcmQRSCP.name, OURS], (OURS, Orthanc.name), "aim")
        self.disk = Table([DISK, OURS], (OURS, DISK), "aim")
        self.otherwise = Table([PLAIN, OTHERWISE, f"{Orthanc.name}, with it"], (OTHERWISE, PLAIN), "aim")
        self.parts: dict[str, Callable[[], None]] = {
            "start": self._start,
            "dr": self._dr,
            "ct": self._ct,
            "tiny": self._tiny,
            "find": self._find,
            "tls": self._tls,
            "pdu": self._short_pdus,
            "postgres": self._postgres,
            "large": self._large,
            "retrieve": self._retrieve,
            "transcoded": self._transcoded,
        }

    def run(self, parts: Sequence[str], repeat: int) -> None:
        """Measure these parts, so many times; the order of the nodes changes."""
        for self._turn in range(repeat):
            for part in parts:
                print(f"{part}, {self._turn + 1} of {repeat}", flush=True)
                self.parts[part]()

    def report(self) -> str:
        """Return the tables that have rows."""
        tables = (
            ("side by side", self.peers),
            ("beside the disk", self.disk),
            ("the same node, otherwise", self.otherwise),
        )
        return "\n\n".join(table.markdown(head) for head, table in tables if table.rows)

    def _start(self) -> None:
        with self._fresh(BackupSCP):  # a first time, for Python to compile what an installation has compiled
            pass
        with self._fresh(Orthanc, DcmQRSCP, BackupSCP) as running:
            for node in running:
                self.peers.add("start to first C-ECHO, s", node.name, node.started_s, "under 1 s")
            for node in running:
                rate = load.associate(node.address, _ASSOCIATIONS)
                self.peers.add("associate + C-ECHO + release, /s", node.name, rate, "0.5; 1,000 /s")

    def _dr(self) -> None:
        row = "C-STORE DR, 1 association, beside 15 MB file + fsync, /s"
        self.disk.add(row, DISK, limits.measure(_FILE_AND_FSYNC, self._folder), "0.6")
        self.disk.add(row, OURS, self._kind(DR)[OURS])

    def _ct(self) -> None:
        self._kind(CT)

    def _tiny(self) -> None:
        self._kind(TINY)

    def _kind(self, kind: Kind) -> dict[str, float]:
        """C-STORE over 1 and 4 associations and one each, C-MOVE and C-GET; give the rates over one association."""
        rates, aims = {}, _AIMS[kind.name]
        with self._fresh(Orthanc, DcmQRSCP, BackupSCP) as running:
            sent = {node.name: self._counts.of(kind) for node in running}
            for node in running:
                cpu = node.cpu_s()
                rates[node.name] = self._stored(self.peers, node, kind, sent[node.name], aims["1"])
                spent_ms = (node.cpu_s() - cpu) / len(sent[node.name]) * 1e3
                self.peers.add(f"server CPU, {kind.name}, ms an instance", node.name, spent_ms, aims.get("cpu", ""))
            for node in running:
                node.forget_peak()
                if node.name != DcmQRSCP.name:  # it refuses and loses what comes at once
                    self._stored(self.peers, node, kind, self._counts.of(kind), aims["4"], associations=4)
                if kind is DR and node.name != DcmQRSCP.name:
                    self.peers.add("peak memory, DR, 4 associations, MB", node.name, node.peak_mb(), "100 MB")
            for node in running:
                done = load.store(node.address, self._counts.of(kind, 4), one_each=True)
                row = f"C-STORE {kind.name}, one association each, /s"
                self.peers.add(row, node.name, done.rate, aims["each"])
            if "retrieve" in aims:
                self._retrieved(running, kind, sent)
        return rates

    def _retrieve(self) -> None:
        """C-MOVE and C-GET alone, as they are in `dr` and `ct`; several times of what was sent once."""
        for kind in (DR, CT):
            with self._fresh(Orthanc, DcmQRSCP, BackupSCP) as running:
                sent = {node.name: self._counts.of(kind) for node in running}
                for node in running:
                    load.store(node.address, sent[node.name])
                for _ in range(_RETRIEVED):
                    self._retrieved(running, kind, sent)

    def _retrieved(self, running: Sequence[Node], kind: Kind, sent: dict[str, list[Instance]]) -> None:
        for verb in ("C-MOVE", "C-GET"):
            for node in running:
                studies = sorted({instance.study for instance in sent[node.name]})
                cpu = node.cpu_s()
                came, seconds = load.retrieve(node.address, verb, kind.sop_class, studies)
                spent_ms = (node.cpu_s() - cpu) / len(sent[node.name]) * 1e3
                _warn(node, verb, came, len(sent[node.name]))
                aim = _AIMS[kind.name]["retrieve"]
                self.peers.add(f"{verb} {kind.name}, /s", node.name, came / seconds, aim)
                self.peers.add(f"server CPU, {verb} {kind.name}, ms an instance", node.name, spent_ms)

    def _transcoded(self) -> None:
        """C-MOVE of JPEG Lossless CT to a destination that takes only uncompressed; a first time in silence."""
        kind, codestream = _TRANSCODED, images.slice_of_ct(_TRANSCODED)
        with nodes.running_sink(*_NATIVE) as sink_port, self._fresh(Orthanc, BackupSCP, sink_port=sink_port) as running:
            sent = {node.name: images.new(kind, kind.in_study, codestream) for node in running}
            for node in running:
                load.store(node.address, sent[node.name], transfer_syntax=_JPEG_LOSSLESS)
            for turn in range(_RETRIEVED + 1):
                for node in running:
                    cpu = node.cpu_s()
                    study = sent[node.name][0].study
                    came, seconds = load.retrieve(node.address, "C-MOVE", kind.sop_class, [study])
                    _warn(node, "C-MOVE", came, kind.in_study)
                    if turn:
                        row = f"C-MOVE of {kind.in_study} JPEG Lossless CT, decoded, /s"
                        self.peers.add(row, node.name, came / seconds, "1")
                        spent_ms = (node.cpu_s() - cpu) / kind.in_study * 1e3
                        self.peers.add("server CPU, the same, ms an instance", node.name, spent_ms)

    def _find(self) -> None:
        with self._fresh(Orthanc, DcmQRSCP, BackupSCP) as running:
            held = dict.fromkeys(running, self._counts.studies)
            for node in running:
                if isinstance(node, DcmQRSCP):
                    held[node] = min(held[node], _MOST_OF_DCMQRSCP)
                load.store(node.address, images.new(_ALL_STUDIES, held[node]))
            for node in running:
                found = [load.find_all(node.address) for _ in range(5)]
                _warn(node, "C-FIND", found[0][0], held[node] + 1)
                rate = statistics.median(answers / seconds for answers, seconds in found)
                row = f"C-FIND, all {self._counts.studies:,} studies, answers/s"
                self.peers.add(row, node.name, rate, "5")

    def _tls(self) -> None:
        issued = certificates.issue(self._folder / f"certificates-{self._turn}")
        with self._fresh(Orthanc, BackupSCP, certificates=issued) as running:
            for kind, aim in ((DR, "0.7"), (CT, ""), (TINY, "")):
                row = f"C-STORE {kind.name} with TLS, /s"
                for node in running:
                    if isinstance(node, BackupSCP):
                        self._with_and_without(row, aim, kind, (node.address, PLAIN), (node.secured, OTHERWISE))
                    else:
                        self._with_and_without(row, aim, kind, (node.address, _otherwise(node)))

    def _short_pdus(self) -> None:
        with self._fresh(Orthanc, BackupSCP) as running:
            for kind in (DR, CT):
                row = f"C-STORE {kind.name} in PDUs of 16 KiB, /s"
                for node in running:
                    if isinstance(node, BackupSCP):
                        self._with_and_without(row, "0.7", kind, (node.address, PLAIN))
                    sent = (node.address, _otherwise(node))
                    self._with_and_without(row, "0.7", kind, sent, longest_pdu=_MODALITY_PDU)

    def _postgres(self) -> None:
        with (
            self._database() as url,
            self._fresh(BackupSCP) as (plain,),
            self._fresh(BackupSCP, index_url=url) as (other,),
        ):
            for kind, aim in ((DR, "0.8"), (CT, "0.8"), (TINY, "")):
                row = f"C-STORE {kind.name} with PostgreSQL, /s"
                self._with_and_without(row, aim, kind, (plain.address, PLAIN), (other.address, OTHERWISE))

    def _with_and_without(
        self, row: str, aim: str, kind: Kind, *sent: tuple[load.Address, str], longest_pdu: int = 0
    ) -> None:
        """Store new instances at each address, in turns the other way round; nobody pays for what came before."""
        for address, column in reversed(sent) if self._turn % 2 else sent:
            os.sync()
            done = load.store(address, self._counts.of(kind), longest_pdu=longest_pdu)
            self.otherwise.add(row, column, done.rate, aim)

    def _large(self) -> None:
        size = self._counts.large_mb
        with self._fresh(BackupSCP) as (node,):
            load.store(node.address, self._counts.of(DR, 4))
            self.peers.add("peak memory, DR, 1 association, MB", OURS, node.peak_mb(), "100 MB")
            node.forget_peak()
            done = load.store(node.address, images.new(images.sized(size * 1_000_000), 1))
            self.peers.add(f"C-STORE of one object of {size:,} MB, MB/s", OURS, done.rate * size)
            self.peers.add(f"peak memory, one object of {size:,} MB, MB", OURS, node.peak_mb(), "as with DR")

    def _stored(
        self, table: Table, node: Node, kind: Kind, sent: list[Instance], aim: str, *, associations: int = 1
    ) -> float:
        os.sync()
        done = load.store(node.address, sent, associations)
        count = "1 association" if associations == 1 else f"{associations} associations"
        table.add(f"C-STORE {kind.name}, {count}, /s", node.name, done.rate, aim)
        return done.rate

    @contextlib.contextmanager
    def _database(self) -> Iterator[str]:
        with postgres.running(self._folder / f"database-{self._turn}", nodes.free_port()) as url:
            upgrade(url)  # a node makes the tables of SQLite only by itself
            yield url

    @contextlib.contextmanager
    def _fresh(
        self,
        *made: type[Node],
        certificates: certificates.Certificates | None = None,
        index_url: str = "",
        sink_port: int = 0,
    ) -> Iterator[list[Node]]:
        """Start nodes one after another on empty folders, and let each store one study."""
        first = self._turn % len(made)
        with contextlib.ExitStack() as stack:
            running = []
            for make in made[first:] + made[:first]:
                self._started += 1
                folder = self._folder / f"{make.name}-{self._started}"
                node = make(Place(folder, sink_port or self._sink_port, certificates, index_url))
                stack.callback(node.stop)
                running.append(node.start())
                load.store(node.address, images.new(TINY, _WARMING))
            yield running


def _otherwise(node: Node) -> str:
    return f"{node.name}, with it"


def _warn(node: Node, verb: str, came: int, wanted: int) -> None:
    if came != wanted:
        print(f"    !! {node.name}: {verb} gave {came} of {wanted}", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", help=f"{' '.join(_ALL)}, or retrieve: a share of dr and ct")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dr", type=int, default=40, help="instances of 15 MB")
    parser.add_argument("--ct", type=int, default=500, help="instances of 0.5 MB")
    parser.add_argument("--tiny", type=int, default=1000, help="instances of 10 KB")
    parser.add_argument("--studies", type=int, default=2000, help="for C-FIND; 400 with dcmqrscp")
    parser.add_argument("--large-mb", type=int, default=4000, help="size of the large object")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    arguments = parser.parse_args()
    counts = Counts(
        {"DR": arguments.dr, "CT": arguments.ct, "tiny": arguments.tiny}, arguments.studies, arguments.large_mb
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, nodes.running_sink() as sink_port:
        measuring = SideBySide(Path(folder), counts, sink_port)
        if unknown := set(arguments.parts or ()) - measuring.parts.keys():
            parser.error(f"no such part: {', '.join(sorted(unknown))}")
        measuring.run(arguments.parts or _ALL, arguments.repeat)
    print(f"\n{measuring.report()}")


if __name__ == "__main__":
    main()
