"""Make one system call of a running node fail, or be its last: strace answers instead of the kernel.

strace counts each kind of call, and the calls of each thread, on its own; and every Association has a thread of its
own: the n-th call is that of the one C-STORE that is sent while the tracer is attached.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import Process
from tests.system.node import Node

KILL = "KILL"

CALLS = {
    "open": "open,openat,openat2,creat",
    "write": "write,writev",
    "write of a row": "pwrite64,pwritev",
    "write to the journal": "pwritev2",
    "fsync": "fsync",
    "flush of the journal": "fdatasync",
    "rename": "rename,renameat,renameat2",
    "link": "link,linkat",
    "mkdir": "mkdir,mkdirat",
    "unlink": "unlink,unlinkat,rmdir",
}
"""What keeps a Data Set, and its row in SQLite, by the name that people have for the calls."""

ERRORS = {
    "open": ("EIO", "ENOSPC", "EMFILE", "ENFILE", "EROFS", KILL),
    "write": ("EIO", "ENOSPC", "EDQUOT", KILL),
    "write of a row": ("EIO", "ENOSPC", "EDQUOT", KILL),
    "write to the journal": ("EIO", "ENOSPC", KILL),
    "fsync": ("EIO", "ENOSPC", "EDQUOT", KILL),
    "flush of the journal": ("EIO", "ENOSPC", KILL),
    "rename": ("EIO", "ENOSPC", "EROFS", KILL),
    "link": ("EIO", "ENOSPC", "EDQUOT", "EROFS", KILL),
    "mkdir": ("EIO", "ENOSPC", "EDQUOT", "EROFS", KILL),
    "unlink": ("EIO", "EROFS", KILL),
}
"""What the system may answer to each of them."""


class Fault(NamedTuple):
    """The n-th of these calls, by a name above or the system's own, and what becomes of it; n of 0 is every one."""

    calls: str
    error: str
    number: int

    def __str__(self) -> str:
        return f"{self.error} at {self.calls} {self.number or 'of any number'}"

    @property
    def injection(self) -> str:
        """Say it in strace's words."""
        what = f"signal={KILL}" if self.error == KILL else f"error={self.error}"
        return f"inject={self.traced}:{what}:when={self.number or '1+'}"

    @property
    def traced(self) -> str:
        """The system's names of the calls."""
        return CALLS.get(self.calls, self.calls)


class Traced:
    """What a node does while a fault waits for it."""

    def __init__(self, calls: Path) -> None:
        self._calls = calls

    @property
    def lines(self) -> list[str]:
        """The calls, one a line, with the paths of their descriptors; complete once the tracer has ended."""
        return self._calls.read_text(errors="replace").splitlines()

    @property
    def was_met(self) -> bool:
        """Whether the node came to the call that failed, and lives."""
        return any("(INJECTED)" in line for line in self.lines)

    @property
    def hurt(self) -> bool:
        """Whether the call that failed was one without which the Data Set, or its row, is not durable.

        Others may fail in peace: SQLite goes on without the fsync of its folder, a staged note may stay, a line of the
        log is lost, and the flush of the index is tried again.
        """
        failed = [line for line in self.lines if "(INJECTED)" in line and ".log>" not in line and "/audit/" not in line]
        failed = [line for line in failed if not ("fdatasync" in line and ".sqlite-wal>" in line)]
        names = f" ({'|'.join(_NEEDED)})\\("
        return any(re.search(names, f" {line.split(maxsplit=1)[1]}") or ".sqlite-wal>" in line for line in failed)


@contextlib.contextmanager
def failing(
    node: Node, fault: Fault, folder: Path, *, also_trace: str = "", path: Path | None = None
) -> Iterator[Traced]:
    """Let a call of the node fail in the block; with ``path`` a call on this file only."""
    calls = folder / f"{fault.calls}-{fault.error}-{fault.number}.calls"
    trace = ",".join(filter(None, (fault.traced, also_trace)))
    argv = ["strace", "-f", "-y", "-p", str(node.pid), "-o", str(calls), "-e", f"trace={trace}", "-e", fault.injection]
    argv += ["-P", str(path)] if path else []
    tracer = Process(argv, calls.with_suffix(".log"))
    tracer.launch(lambda: "attached" in tracer.output)
    try:
        yield Traced(calls)
    finally:
        if node.process.running:
            tracer.terminate()
        else:  # it is dead, and this says that the test meant it
            tracer.kill()
            node.kill()


def require_strace() -> None:
    """Skip the test where no process may be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() != 0 and scope.exists() and scope.read_text().strip() != "0":
        pytest.skip("needs the right to trace another process: root, or kernel.yama.ptrace_scope = 0")


_NEEDED = ("write", "pwrite64", "pwritev2", "fsync", "fdatasync", "link", "mkdir")
_CALL = re.compile(r"(?P<thread>\d+)\s+(?P<name>\w+)\((?P<arguments>.*)\)\s+=\s+(?P<result>-?\d+|\?)(?P<rest>.*)")


class Call(NamedTuple):
    """One call as strace writes it."""

    thread: str
    name: str
    arguments: str
    failed: bool


def calls_of(lines: list[str]) -> Iterator[Call]:
    """Read the calls that were not interrupted by another thread's."""
    for line in lines:
        if found := _CALL.match(line):
            yield Call(found["thread"], found["name"], found["arguments"], found["result"].startswith("-"))
