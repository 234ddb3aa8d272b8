"""What a restore did with each study, and how its arrival was confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from backup_scp.ports import Inventory

_PAUSES_S = (0, 1, 2, 4, 8)  # a destination may list an image some seconds after it has confirmed it


class Confirmation(StrEnum):
    """How it was confirmed that a study arrived; each is worth more than the next."""

    COMMITTED = "committed"  # the destination has committed each image (Storage Commitment)
    COUNTED = "counted"  # it confirmed each image, and lists as many (C-FIND)
    ANSWERED = "answered"  # it confirmed each image (C-STORE), or the folder has it
    SHORT = "short"  # it confirmed each image, but lists fewer
    NONE = "none"  # nothing arrived


@dataclass(slots=True)
class RestoredStudy:
    """What a restore did with one study.

    Attributes
    ----------
    instances
        Number of different selected instances.
    before
        How many versions the destination confirmed in an earlier restore; they were not sent again.
    sent, failed
        How many versions it confirmed in this restore, and how many failed.
    committed
        How many of the sent ones it has committed.
    counted
        How many instances it lists; None when it does not say, or was not asked.
    """

    instances: int = 0
    before: int = 0
    sent: int = 0
    failed: int = 0
    committed: int = 0
    counted: int | None = None

    @property
    def arrived(self) -> int:
        """How many different instances the destination must have, at least."""
        return max(min(self.before + self.sent, self.instances - self.failed), 0)

    @property
    def is_committed(self) -> bool:
        """Whether the destination has committed everything that it confirmed."""
        return 0 < self.sent == self.committed and not self.before

    @property
    def confirmation(self) -> Confirmation:
        """How it was confirmed that the study arrived."""
        if not self.before + self.sent:
            return Confirmation.NONE
        if self.is_committed:
            return Confirmation.COMMITTED
        if self.counted is None:
            return Confirmation.ANSWERED
        return Confirmation.COUNTED if self.counted >= self.arrived else Confirmation.SHORT


def count(
    studies: Iterable[tuple[str, RestoredStudy]], inventory: Inventory, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Ask the destination how many images of each study it lists; ask again for some seconds where it lists fewer."""
    inventory.connect()
    asked = list(studies)
    for pause_s in _PAUSES_S:
        if not asked:
            break
        sleep(pause_s)
        for uid, study in asked:
            study.counted = inventory.count(uid)
        asked = [(uid, study) for uid, study in asked if study.confirmation is Confirmation.SHORT]
    inventory.disconnect()
