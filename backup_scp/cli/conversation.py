"""Ask a person at a terminal, in lines that fit it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import TypeVar

import typer

from backup_scp.cli.log import escape
from backup_scp.errors import Invalid

T = TypeVar("T")

_WIDEST = 100  # columns


class Conversation:
    """Tells and asks.

    Parameters
    ----------
    is_beside
        Whether a program reads the output: a person then reads standard error.
    """

    def __init__(self, *, is_beside: bool) -> None:
        self._is_beside = is_beside
        self._stream = sys.stderr if is_beside else sys.stdout
        self._width = min(shutil.get_terminal_size().columns, _WIDEST)

    def tell(self, sentence: str = "", indent: str = "") -> None:
        """Print a sentence, wrapped between words; further lines are indented as the first one's text."""
        further = " " * len(indent)
        lines = textwrap.wrap(
            escape(sentence),
            self._width,
            initial_indent=indent,
            subsequent_indent=further,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self.show(lines or [""])

    def show(self, lines: list[str]) -> None:
        """Print lines as they are."""
        for line in lines:
            print(escape(line), file=self._stream, flush=True)

    def ask(self, label: str, accept: Callable[[str], T], default: str = "") -> T:
        """Ask until an answer is accepted; Enter answers with the default.

        Parameters
        ----------
        accept
            Returns what the answer means, or raises ``Invalid`` with a sentence, which is told.
        """
        while True:
            answer = typer.prompt(label, default=default, show_default=bool(default), err=self._is_beside)
            try:
                return accept(str(answer).strip())
            except Invalid as error:
                self.tell(str(error), "! ")

    def is_agreed(self, label: str, *, default: bool = True) -> bool:
        """Ask for yes or no."""
        return bool(typer.confirm(label, default=default, err=self._is_beside))

    @staticmethod
    def pressed_enter() -> bool:
        """Tell whether a line was typed meanwhile, and read it; False on systems that cannot tell."""
        if sys.platform == "win32":
            return False
        import select

        if not select.select([sys.stdin], [], [], 0)[0]:
            return False
        sys.stdin.readline()
        return True
