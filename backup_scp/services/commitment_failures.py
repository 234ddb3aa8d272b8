"""Say why images were not committed, for the person who looks after the console (PS3.3 C.14.1.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from backup_scp.machine.readable import count
from backup_scp.ports import FailureReason

_WORDS: dict[FailureReason, tuple[str, str]] = {
    FailureReason.NO_SUCH_OBJECT_INSTANCE: (
        "not stored here",
        "send them again from the console, before it deletes them; does it send to this node at all, or only ask?",
    ),
    FailureReason.CLASS_INSTANCE_CONFLICT: (
        "stored here under another SOP Class",
        "report it to the maker of the console",
    ),
    FailureReason.SOP_CLASS_NOT_SUPPORTED: (
        "of no SOP Class that is stored",
        "let the console ask only for what it has stored here",
    ),
    FailureReason.PROCESSING_FAILURE: (
        "damaged, or not in all copies yet",
        "backup-scp status  says more about damage and copies",
    ),
}


def why_not_committed(results: Sequence[FailureReason | None]) -> tuple[str, str] | None:
    """Return the reason and the fix for the most frequent failure; None when all images are committed."""
    failures = Counter(filter(None, results))
    if not failures:
        return None
    ((most, number),) = failures.most_common(1)
    words, fix = _WORDS[most]
    are = "is" if number == 1 else "are"
    return f"it asks for {count(number, 'image')} of {len(results)} to be committed that {are} {words}", fix
