"""Report the failure of a command: a sentence for a person, an object for a program, an exit code for both."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backup_scp.cli.output import complain, print_json

EXIT_CODES = {
    0: "All is well, and the command did everything that it was asked for.",
    1: "Something failed, or a person must act. The command says what.",
    2: "The command line is wrong: nothing was done.",
    130: "The command was interrupted (Ctrl-C). Completed work is kept.",
}
"""The exit codes of every command."""

_OF_PYDANTIC = "Value error, "  # newer versions of typer let it stand before their own sentence


@dataclass(frozen=True, slots=True)
class Failure:
    """What a command that fails prints with ``--json``.

    Attributes
    ----------
    error
        What went wrong, in a sentence; it names no patient.
    fix
        What to do, if the sentence does not say it; else empty.
    exit_code
        The exit code of the command.
    """

    error: str
    fix: str
    exit_code: int


def fail(sentence: str, exit_code: int, fix: str = "") -> None:
    """Print the failure to standard error, with ``--json`` to standard output too, and exit."""
    complain(sentence)
    print_failure(sentence, exit_code, fix)


def print_failure(sentence: str, exit_code: int, fix: str = "") -> None:
    """Print a failure as JSON, if the command line has --json."""
    if "--json" in sys.argv[1:]:
        print_json(Failure(sentence, fix, exit_code))


@contextmanager
def usage_errors_told() -> Iterator[None]:
    """Print a wrong or interrupted command line as JSON, and raise again: the library prints the sentence and exits.

    The exception is click's, or that of the copy of click in newer versions of typer; recognised by its methods.
    """
    try:
        yield
    except KeyboardInterrupt:
        print_failure("Interrupted", 130)
        raise
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "message"):
            error.message = error.message.removeprefix(_OF_PYDANTIC)
            print_failure(error.format_message(), 2)
        raise
