"""Count images by study and SOP Class, as the messages of the audit trail have them (PS3.15 A.5.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.ports import StoredVersion

_MOST_STUDIES = 100  # counted at a time


class StudyCounts:
    """Counts images by study and SOP Class, and reports them when there are many studies.

    Parameters
    ----------
    say
        Reports the counts.
    """

    def __init__(self, say: Callable[[Mapping[str, Mapping[str, int]]], None]) -> None:
        self._say = say
        self._counts: dict[str, Counter[str]] = {}

    def add(self, instance: SOPInstance | StoredVersion) -> None:
        """Count an image."""
        if instance.study_instance_uid not in self._counts and len(self._counts) >= _MOST_STUDIES:
            self.report()
        self._counts.setdefault(instance.study_instance_uid, Counter())[instance.sop_class_uid] += 1

    def report(self) -> None:
        """Report what was counted, and begin to count again."""
        counts, self._counts = self._counts, {}
        self._say(counts)


def each_study(versions: Iterable[StoredVersion], say: Callable[[Mapping[str, Mapping[str, int]]], None]) -> None:
    """Count these images, and report them."""
    counts = StudyCounts(say)
    for version in versions:
        counts.add(version)
    counts.report()
