"""Time the pages over HTTP on loopback, on an index that ``benchmarks.fill_index`` has filled.

    python -m benchmarks.page sqlite:////var/tmp/index.sqlite

Each value is asked for once before it counts, as by somebody who types; the first view of the state is the first
request after the start of the node.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlencode

from benchmarks.query_node import RunningNode, running

REQUESTS = 20
AIM_MS = 100
_START_S = 60.0
_SEEN = "backup-scp-seen=2024-12-01T00:00:00+00:00"

Held = dict[str, str]
CASES: tuple[tuple[str, Callable[[Held], dict[str, str]]], ...] = (
    ("nothing", lambda _: {}),
    ("three letters of a name", lambda held: {"q": held["PatientName"][:3]}),
    ("a name", lambda held: {"q": held["PatientName"].replace("^", " ")}),
    ("one letter", lambda held: {"q": held["PatientName"][:1]}),
    ("two letters", lambda held: {"q": held["PatientName"][:2]}),
    ("two letters that nobody has", lambda _: {"q": "xq"}),
    ("the most common name", lambda _: {"q": "james"}),
    ("two very common names", lambda _: {"q": "smith james"}),
    ("山田", lambda _: {"q": "山田"}),
    ("a Patient ID", lambda held: {"q": held["PatientID"]}),
    ("the begin of very many Patient IDs", lambda _: {"q": "000"}),
    ("an Accession Number", lambda held: {"q": held["AccessionNumber"]}),
    ("a birth date", lambda held: {"q": held["PatientBirthDate"]}),
    ("a day", lambda held: {"q": held["StudyDate"]}),
    ("a modality", lambda _: {"q": "CT"}),
    ("a modality that no study has", lambda _: {"modality": "IVOCT"}),
    ("a name and a modality", lambda held: {"q": f"{held['PatientName'][:3]} ct"}),
    ("new", lambda _: {"when": "unread"}),
    ("page 20", lambda _: {"page": "20"}),
)


class Browser:
    """One connection to the page."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._connection = http.client.HTTPConnection("127.0.0.1", node.web_port)

    def get_ms(self, address: str) -> float:
        """Return how long one page takes."""
        began = time.perf_counter()
        self._connection.request("GET", address, headers={"Cookie": _SEEN})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{address} is answered with {answer.status}")
        return (time.perf_counter() - began) * 1000

    def patiently(self) -> None:
        """Wait until the web process serves; what it serves has nothing of the index."""
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.get_ms("/static/page.css")
                return
            self._connection.close()
            time.sleep(0.05)
        raise SystemExit("the node does not serve its pages")


def report(node: RunningNode) -> None:
    """Print the table."""
    browser = Browser(node)
    browser.patiently()
    print(f"| page, {node.studies:,} studies | median, ms | worst of {REQUESTS}, ms | at most |")
    print("|---|---|---|---|")
    print(f"| state, the first view | {browser.get_ms('/'):.0f} | | {AIM_MS} |")
    _row(browser, "state, again", ["/"] * REQUESTS)
    for name, fields in CASES:
        held = [next(node.held) for _ in range(REQUESTS)]
        _row(browser, name, [f"/studies?{urlencode(fields(one))}" for one in held])


def _row(browser: Browser, name: str, addresses: list[str]) -> None:
    for address in addresses:
        browser.get_ms(address)
    taken = [browser.get_ms(address) for address in addresses]
    print(f"| {name} | {statistics.median(taken):.0f} | {max(taken):.0f} | {AIM_MS} |", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the index")
    arguments = parser.parse_args()
    with running(arguments.url) as node:
        report(node)


if __name__ == "__main__":
    main()
