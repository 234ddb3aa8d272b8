"""A DR console with faults: refuses, fills up, restarts, hangs, breaks off, and is replaced by an empty one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from tests.processes import LOOPBACK, free_port
from tests.system.node import Remote

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
VERIFICATION = "1.2.840.10008.1.1"

Trouble = Callable[["Console", str], int | None]
"""Asked about each image that comes: a Status, or None to take it."""


class Console:
    """A Storage SCP of pynetdicom that records the UIDs of stored instances, and answers C-FIND if ``finds``."""

    def __init__(self, takes: list[str], trouble: Trouble, *, finds: bool = False) -> None:
        self.port = free_port()
        self.taken: list[str] = []
        self.asked: list[str] = []
        self.studies: dict[str, int] = {}
        self.let_go = threading.Event()  # of an image on which it hangs
        self.event: Any = None
        self._takes, self._trouble, self._finds = takes, trouble, finds
        self._server: Any = None

    @property
    def remote(self) -> Remote:
        return Remote("console", "CONSOLE", self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self.stop()

    def start(self) -> None:
        ae = AE("CONSOLE")
        ae.network_timeout = ae.dimse_timeout = 60
        for sop_class in [*self._takes, VERIFICATION, *([STUDY_ROOT_FIND] if self._finds else [])]:
            ae.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        handlers: Any = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        self._server = ae.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Close the port and every association, as a restart does."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    def replace(self) -> None:
        """Put an empty one in its place."""
        self.taken.clear()
        self.studies.clear()

    def _store(self, event: Any) -> int:
        self.event = event
        uid = str(event.request.AffectedSOPInstanceUID)
        self.asked.append(uid)
        status = self._trouble(self, uid)
        if status is None:
            self.taken.append(uid)
            study = str(event.dataset.StudyInstanceUID)
            self.studies[study] = self.studies.get(study, 0) + 1
        return status or 0

    def _find(self, event: Any):
        wanted = str(event.identifier.StudyInstanceUID)
        if wanted in self.studies:
            found = Dataset()
            found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", wanted
            found.NumberOfStudyRelatedInstances = self.studies[wanted]
            yield 0xFF00, found
