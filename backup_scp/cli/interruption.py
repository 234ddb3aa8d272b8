"""Ctrl-C in a long command: prints what was done, and how to continue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

INTERRUPTED = "Interrupted"
"""Why a command stopped, in its summary."""

EXIT_CODE = 130
"""What a shell gives a command that SIGINT has ended: 128 and the signal's number."""


@contextmanager
def interruptible(tell: Callable[[], None]) -> Iterator[None]:
    """Let ``tell`` print what the block has done when Ctrl-C ends it; then exit with code 130.

    What the block has opened is closed by then.  A second Ctrl-C ends ``tell`` as well.
    """
    try:
        yield
    except KeyboardInterrupt:
        tell()
        raise typer.Exit(EXIT_CODE) from None
