"""The node's system calls against the promises of POSIX alone: a name is durable after its folder was flushed.

ext4 and XFS are kinder than that: one fsync writes the whole journal, other files' names included. So no power cut on
them shows a missing fsync of a folder further up; the calls do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = (
    "mkdir,mkdirat,openat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,write,pwrite64,pwritev2,fsync,fdatasync,"
    "syncfs,sendto"
)
STRACE = (
    *("strace", "-D", "-f", "-y", "-q", "-s", "300"),  # -D: the process that is started is the node, not strace
    *("-e", f"trace={_CALLS}"),
)
_STRINGS = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"\((\d+)<([^>]*)>")
_P_DATA_TF = r"\4"


@dataclass
class Calls:
    """The names created and flushed, up to a moment."""

    made: dict[Path, int] = field(default_factory=dict)
    """A name to when it was made; to open it once more makes none."""
    written: dict[Path, int] = field(default_factory=dict)
    flushed: dict[Path, int] = field(default_factory=dict)
    all_flushed: int = -1
    linked: dict[Path, Path] = field(default_factory=dict)
    """A second name to the first."""

    def take(self, at: int, line: str) -> None:
        call = line.partition("(")[0]
        paths = [Path(text) for text in _STRINGS.findall(line)]
        descriptor = _DESCRIPTOR.search(line)
        if call in {"fsync", "fdatasync"} and descriptor:
            self.flushed[Path(descriptor[2])] = at
        elif call == "syncfs":
            self.all_flushed = at
        elif call in {"write", "pwrite64", "pwritev2"} and descriptor:
            self.written[Path(descriptor[2])] = at
        elif call.startswith("unlink"):
            self.made.pop(paths[0], None)
        elif call.startswith(("link", "rename")):
            self.made[paths[1]] = at
            self.linked[paths[1]] = paths[0]
        elif call.startswith("mkdir") or "O_CREAT" in line:
            self.made.setdefault(paths[0], at)

    def not_durable(self, *names: Path) -> Iterator[str]:
        """Say of each of these files, and the folders above, what a power cut after the answer may have undone."""
        for name in names:
            content = self.linked.get(name, name)
            if self.written.get(content, -1) > self._flushed(content):
                yield f"the bytes of {name} were not flushed"
            for entry in (name, *name.parents):
                if entry in self.made and self.made[entry] > self._flushed(entry.parent):
                    yield f"the name {entry} was not flushed"

    def _flushed(self, path: Path) -> int:
        return max(self.flushed.get(path, -1), self.all_flushed)


def read_trace(trace: Path, *, to_its_end: bool = False) -> Calls:
    """Read the output of strace up to the last answer, or to its end."""
    lines = list(_calls(trace.read_text(errors="replace")))
    last = max(at for at, line in enumerate(lines) if line.startswith("sendto(") and f'"{_P_DATA_TF}' in line)
    calls = Calls()
    for at, line in enumerate(lines if to_its_end else lines[: last + 1]):
        calls.take(at, line)
    return calls


def _calls(text: str) -> Iterator[str]:
    """Yield each call that succeeded, at the time of its return."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        process, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[process] = call.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            call = begun.pop(process, "") + call[resumed.end() :]
        if " = -1 " not in call and not call.startswith("+++"):
            yield call
