"""Runs a command line that waits in the N-th call of one function: `-m tests.cli.paused MODULE:NAME N ARGUMENTS...`.

It prints PAUSED there: whoever has read it knows where the command is, and interrupts it at that very moment.
"""

from __future__ import annotations

import importlib
import itertools
import operator
import sys
import threading


def pause_in(target: str, number: int) -> None:
    """Let the N-th call of a function or method wait until a signal ends it."""
    module_name, _, path = target.partition(":")
    owner_path, _, name = path.rpartition(".")
    module = importlib.import_module(module_name)
    owner = operator.attrgetter(owner_path)(module) if owner_path else module
    real, calls = getattr(owner, name), itertools.count(1)

    def paused(*arguments, **options):
        if next(calls) == number:
            print("PAUSED", flush=True)
            threading.Event().wait()
        return real(*arguments, **options)

    setattr(owner, name, paused)


if __name__ == "__main__":
    _, target, number, *sys.argv[1:] = sys.argv
    pause_in(target, int(number))
    from backup_scp.cli import main

    main()
