"""Time C-FIND against a running node over loopback, on a smaller and a larger index side by side.

Both indexes are filled by ``benchmarks.fill_index``.  The node is ``backup-scp serve`` in a process of its own; times
are those of the requester, its own work included.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from backup_scp.dicom.attributes import BY_KEYWORD
from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dimse.association.association import Association, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.dimse.messages.command_set import Element, Field, encode
from backup_scp.dimse.messages.response_identifier import QUERY_RETRIEVE_LEVEL, encode_elements
from backup_scp.errors import DestinationUnavailable
from backup_scp.index.sql_index import SQLIndex
from benchmarks.query_index import CASES, ROUNDS, SECONDS, SHOWN, Case, held_studies

_AE_TITLE = "BACKUP_SCP"
_START_S = 60.0
_EXPLICIT = NATIVE[0]


class Requester:
    """One Association to a node."""

    def __init__(self, port: int) -> None:
        self._association = Association.request_from(
            local=LocalAE("BENCHMARK"),
            called=_AE_TITLE,
            host="127.0.0.1",
            port=port,
            contexts=[(STUDY_ROOT.find_uid, [_EXPLICIT])],
        )

    def find(self, keys: dict[str, str]) -> int:
        """Send a C-FIND-RQ at STUDY level; give the number of pending answers once the final one is in."""
        request: dict[Element, str | int] = {
            Element.AFFECTED_SOP_CLASS_UID: STUDY_ROOT.find_uid,
            Element.COMMAND_FIELD: Field.C_FIND_RQ,
            Element.MESSAGE_ID: 1,
            Element.PRIORITY: 0,
        }
        values = dict.fromkeys(SHOWN, "") | keys
        elements = [(BY_KEYWORD[key].tag, BY_KEYWORD[key].vr, value.encode("ascii")) for key, value in values.items()]
        elements.append((QUERY_RETRIEVE_LEVEL, "CS", b"STUDY"))
        self._association.send(1, encode(request, data_set=True), encode_elements(elements, _EXPLICIT))
        answers = 0
        while (answer := self._association.read_response(Field.C_FIND_RSP, 1)).has_data_set:
            answers += 1
        if answer.status:
            raise SystemExit(f"the node answered C-FIND with status 0x{answer.status:04X}")
        return answers

    def release(self) -> None:
        """Say good-bye."""
        self._association.release()


class RunningNode:
    """``backup-scp serve`` on a filled index."""

    def __init__(self, url: str, folder: Path) -> None:
        with contextlib.closing(SQLIndex(url)) as index:
            self.studies = index.holdings().studies
        self.held = held_studies(self.studies)
        self.port, self.web_port = _free_port(), _free_port()
        settings = {
            "CONFIG": "",  # no settings file of this machine
            "HOME": str(folder),
            "INDEX__URL": url,
            "NODE__PORT": str(self.port),
            "NODE__HOST": "127.0.0.1",
            "WEB__PORT": str(self.web_port),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "backup_scp", "serve"],
            env=os.environ | {f"BACKUP_SCP_{name}": value for name, value in settings.items()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def requester(self) -> Requester:
        """Open an Association, as soon as the node listens."""
        until = time.monotonic() + _START_S
        while True:
            try:
                return Requester(self.port)
            except DestinationUnavailable:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the node does not start; try `backup-scp serve` with this index") from None
                time.sleep(0.1)

    def peak_mib(self) -> float:
        """Give the most memory that its process has had."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def stop(self) -> None:
        """End it as a service manager does."""
        self._process.terminate()
        self._process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(url: str) -> Iterator[RunningNode]:
    """Run a node on an index, without an image."""
    with tempfile.TemporaryDirectory() as folder:
        node = RunningNode(url, Path(folder))
        try:
            yield node
        finally:
            node.stop()


def ask(node: RunningNode, case: Case) -> list[float]:
    """Give the milliseconds of each query of one kind."""
    requester, taken, began = node.requester(), [], time.perf_counter()
    for held in itertools.islice(node.held, case.at_most):
        start = time.perf_counter()
        requester.find(case.keys(held))
        taken.append((time.perf_counter() - start) * 1000)
        if time.perf_counter() - began > SECONDS / ROUNDS:
            break
    requester.release()
    return taken


def stream(node: RunningNode) -> tuple[float, float]:
    """Give answers a second of a universal query, and by how many MiB the node's peak of memory rose during it."""
    requester = node.requester()
    requester.find({"StudyInstanceUID": "1.2.3"})
    before, began = node.peak_mib(), time.perf_counter()
    rate = requester.find({}) / (time.perf_counter() - began)
    requester.release()
    return rate, node.peak_mib() - before


def report(small: RunningNode, large: RunningNode) -> None:
    """Print the table."""
    print(f"{'C-FIND over loopback':24}{small.studies:>12,} studies{large.studies:>12,} studies   ratio")
    for case in CASES:
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for node, done in zip((small, large), taken, strict=True):
                done.extend(ask(node, case))
        few, many = (statistics.median(done) for done in taken)
        print(f"{case.name:24}{few:>17.3f} ms{many:>17.3f} ms{many / few:>8.2f}")
    (few, few_mib), (many, many_mib) = stream(small), stream(large)
    print(f"{'universal query':24}{few:>18,.0f}/s{many:>18,.0f}/s{few / many:>8.2f}")
    print(f"{'  memory it took more':24}{few_mib:>16.1f} MiB{many_mib:>16.1f} MiB")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("small", help="URL of the smaller index")
    parser.add_argument("large", help="URL of the larger index")
    arguments = parser.parse_args()
    with running(arguments.small) as small, running(arguments.large) as large:
        report(small, large)


if __name__ == "__main__":
    main()
