"""``python -m backup_scp.cli.restore_job``: one restore that was ordered on the page (node/restore_runner.py)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup_scp.node.restore_runner import RestoreOrder, RestoreTold
    from backup_scp.ports import Progress


def main() -> int:
    """Carry out the order at standard input; end early when that closes.  Return the exit code."""
    from backup_scp.cli.light_imports import keep_out

    keep_out()
    import msgspec

    from backup_scp.machine.priority import lower_priority
    from backup_scp.node.restore_runner import RestoreOrder, RestoreTold

    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print among the messages

    is_over = threading.Event()

    def tell(told: RestoreTold) -> None:
        if told.kind == "end":
            is_over.set()  # the node closes standard input then
        with contextlib.suppress(OSError):
            output.write(msgspec.json.encode(told) + b"\n")
            output.flush()

    lower_priority()
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=RestoreOrder, dec_hook=_typed)
    threading.Thread(target=_interrupt_with_the_node, args=[is_over], daemon=True).start()
    return _restore(order, tell, RestoreTold)


def _restore(order: RestoreOrder, tell: Any, told: type[RestoreTold]) -> int:
    from backup_scp.cli.restore import SendingOptions, send
    from backup_scp.dicom.attributes import BY_KEYWORD
    from backup_scp.dicom.query.information_model import AnyOf, Condition, SingleValue
    from backup_scp.errors import BackupSCPError
    from backup_scp.machine.folders import make_folders
    from backup_scp.node import remote_aes
    from backup_scp.ports import Selection, SiteScope

    last = told("progress")

    def show(at: Progress) -> None:
        nonlocal last
        last = told("progress", at.done, at.total)
        tell(last)

    def wait(words: str) -> None:
        tell(told("waits", last.done, last.total, words))

    wanted = AnyOf(tuple(map(SingleValue, order.studies)))
    conditions = (Condition(BY_KEYWORD["StudyInstanceUID"], wanted),)
    selection = Selection(conditions, scope=SiteScope.read(order.scope))
    sys.argv = ["backup-scp", "restore", "--to", order.to, *(f"--study={uid}" for uid in order.studies)]
    try:
        destination = remote_aes.destination(order.settings, order.to)
        make_folders(order.receipt.parent, 0o700)
        sending = SendingOptions(receipt=order.receipt)
        done, lacking, _, written = send(
            order.settings, order.to, destination, selection, sending, show=show, tell_waiting=wait
        )
    except (BackupSCPError, OSError) as error:
        sentence = str(error) if isinstance(error, BackupSCPError) else f"Not sent ({error.strerror})"
        tell(told("end", last.done, last.total, sentence))
        return 1
    if done.interrupted:
        return 130
    there = done.selected - done.missing
    why = f": {lacking[0].reason}" if lacking else f": {done.stopped}" if done.stopped else ""
    sentence = "" if done.is_complete else why.removeprefix(": ") or "No stored image matches"
    tell(told("end", there, done.selected, sentence, done.is_complete, written.name if written else ""))
    return 0


def _interrupt_with_the_node(is_over: threading.Event) -> None:
    """End as Ctrl-C does when the node closes standard input, or dies."""
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    if not is_over.is_set():
        os.kill(os.getpid(), signal.SIGINT)


def _typed(kind: type, value: Any) -> Any:
    """Convert what JSON has no type for: a path."""
    return kind(value) if kind is Path else value


if __name__ == "__main__":
    sys.exit(main())
