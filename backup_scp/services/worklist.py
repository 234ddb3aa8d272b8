"""Select what the lines of a list name, in the order of the list."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import NamedTuple

from backup_scp.ports import IndexReader, Selection, StoredVersion


class Wanted(NamedTuple):
    """One line of a list, and all selections that it may mean."""

    line: str
    selections: tuple[Selection, ...]


class Worklist:
    """The lines of a list.  A study that several lines name is selected once, with the first of them.

    Attributes
    ----------
    unmatched
        The lines that matched nothing when the list was last read to its end.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self.unmatched: list[str] = []

    def batches(self, index: IndexReader) -> Generator[list[StoredVersion], None, None]:
        """Find what the lines name, in batches of whole studies; the newest study of each line first."""
        seen: set[str] = set()
        unmatched = []
        for line, selections in self._wanted:
            found = False
            for selection in selections:
                with closing(index.select_in_batches(selection)) as batches:
                    for batch in batches:
                        found = True
                        yield [held for held in batch if _part(held, selection) not in seen]
                        seen.update(_part(held, selection) for held in batch)
            if not found:
                unmatched.append(line)
        self.unmatched = unmatched


def _part(held: StoredVersion, selection: Selection) -> str:
    """Return what a line selects whole: a study, or an image, since its patient may have been another one then."""
    return held.study_instance_uid if selection.as_of is None else held.location
