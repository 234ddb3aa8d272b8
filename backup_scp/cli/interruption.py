"""On Ctrl-C in a long command, and on signals that end it as well, print what was done and how to continue."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = "Interrupted"
"""The reason for the end of an interrupted command, in its summary."""

EXIT_CODE = 130
"""The exit code that a shell uses for a command ended by SIGINT: 128 plus the number of the signal."""


@contextmanager
def interruptible(tell: Callable[[], None]) -> Iterator[None]:
    """When Ctrl-C ends the block, call ``tell`` to print what was done, and exit with code 130.

    Everything that the block opened is closed before.  A second Ctrl-C ends ``tell`` too.
    """
    try:
        yield
    except KeyboardInterrupt:
        tell()
        raise SystemExit(EXIT_CODE) from None


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a service that is stopped, a terminal that is closed) end the block as Ctrl-C does.

    A signal that is ignored stays ignored: ``nohup`` does that.
    """
    names = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
