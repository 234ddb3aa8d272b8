"""Run a command in a pseudo-terminal of a given width, as at a keyboard; read it, and send Ctrl-C."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT, clean_environment, wait_until

CTRL_C = b"\x03"

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TAKE_THE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""The new session's terminal is the one that it reads: only then Ctrl-C is a signal."""


@dataclass
class Ended:
    """The result of a command: its exit code, and its output without colours."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """Roughly the final screen: of a line that was overwritten, the last text."""
        return [line.split("\r")[-1].rstrip() for line in self.text.replace("\r\n", "\n").split("\n")]


class Terminal:
    """One command in a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self._process = process
        self._master = master
        self._read = bytearray()
        self._hung_up = threading.Event()
        self._reader = threading.Thread(target=self._read_all, daemon=True)
        self._reader.start()

    @property
    def raw(self) -> str:
        """Everything that was printed until now, with the escape sequences."""
        return bytes(self._read).decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """Everything that was printed until now."""
        return _ESCAPES.sub("", self.raw)

    def wait_for(self, words: str) -> None:
        """Return when the screen has shown these words, on one line or on several."""
        wait_until(lambda: self._has(words) or self._process.poll() is not None, 60, what=f"{words!r} being printed")
        assert self._has(words), self.text

    def _has(self, words: str) -> bool:
        return words in self.text or words in " ".join(self.text.split())

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def end(self, timeout_s: float = 100) -> Ended:
        """Wait until the command has ended."""
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return Ended(code, self.text)

    def hang_up(self) -> None:
        """Close the window: the system sends SIGHUP, and what is printed from now on goes nowhere."""
        self._hung_up.set()
        self._reader.join()
        os.close(self._master)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if not self._hung_up.is_set():
            self._reader.join()
            os.close(self._master)

    def _read_all(self) -> None:
        while not self._hung_up.is_set():
            if not select.select([self._master], [], [], 0.2)[0]:
                continue
            try:
                some = os.read(self._master, 1 << 16)
            except OSError as error:
                if error.errno != errno.EIO:  # so Linux says that nobody has the other end open
                    raise
                return
            if not some:
                return
            self._read += some


@contextmanager
def terminal(
    *argv: str | Path, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[Terminal]:
    """Run a program in a terminal: it reads, prints and complains there."""
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        inherited = clean_environment(PYTHONPATH=str(ROOT), TERM="xterm-256color") | dict(env or {})
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_THE_TERMINAL, *map(str, argv)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={name: value for name, value in inherited.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}},
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    shown = Terminal(process, master)
    try:
        yield shown
    finally:
        shown.close()
