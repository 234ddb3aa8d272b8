"""On Ctrl-C in a long command, print what was done and how to continue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

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
        raise typer.Exit(EXIT_CODE) from None
