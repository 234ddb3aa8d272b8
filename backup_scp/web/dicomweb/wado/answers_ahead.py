"""Make the thumbnails and metadata of new studies before somebody asks for them, when nothing else comes in.

A list of studies shows fifty thumbnails at once, and a viewer asks for the metadata of a thousand images: each takes
some 15 ms and 0.35 ms of a core the first time (docs/adr/0057).
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import datetime, timedelta

from starlette.datastructures import QueryParams

from backup_scp.dicom.rendering import can_render
from backup_scp.errors import BackupSCPError
from backup_scp.machine import clock
from backup_scp.watch.unforeseen import place_of
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.metadata import made_ahead
from backup_scp.web.dicomweb.wado.pictures import JPEG
from backup_scp.web.dicomweb.wado.rendered import thumbnail_of
from backup_scp.web.dicomweb.wado.rendering_request import RenderingRequest
from backup_scp.web.problems import Problem
from backup_scp.web.stores import Stores

log = logging.getLogger(__name__)

_EVERY_S = 5.0
_QUIET = timedelta(seconds=5)
_NEWEST = 200
_AT_ONCE = 10
_JUST_CAME = timedelta(hours=1)  # the system has most of it in memory still


class AnswersAhead:
    """One thread of the web process; the studies that it looks at are the newest 200."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._wanted = RenderingRequest.read(QueryParams(), is_thumbnail=True)
        self._can_render = can_render()
        self._done: set[tuple[int, datetime]] = set()
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def start(self) -> None:
        """Begin, if what is made can be kept."""
        if self._stores.cache is not None:
            self._thread.start()

    def stop(self) -> None:
        """End, after the image that is being read."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def work(self) -> int:
        """Make some, unless images come in now; return how many studies were looked at.

        A study that has got further images since is looked at again.

        Raises
        ------
        IndexUnavailable
        """
        newest = self._stores.index.newest_studies(_NEWEST)
        now = clock.now()
        if any(now - _QUIET < study.last_received_at <= now for study in newest):
            return 0
        self._done &= {(study.number, study.last_received_at) for study in newest}
        waiting = [study for study in newest if (study.number, study.last_received_at) not in self._done][:_AT_ONCE]
        for study in waiting:
            if self._is_stopping.is_set():
                break
            self._make(study.study_instance_uid, just_came=now - study.last_received_at < _JUST_CAME)
            self._done.add((study.number, study.last_received_at))
        return len(waiting)

    def _make(self, study_instance_uid: str, *, just_came: bool) -> None:
        try:
            held = resources.versions_of(self._stores, {"study": study_instance_uid})
            if self._can_render:
                with suppress(Problem, BackupSCPError):  # told when somebody asks for it
                    for shown in (held, held[:1]):  # in lists, and by the viewer, which begins with the first image
                        thumbnail_of(self._stores, shown, None, JPEG, self._wanted)
            if just_came:
                for _ in made_ahead(self._stores, held):
                    if self._is_stopping.is_set():
                        return
        except (Problem, BackupSCPError):
            pass

    def _run(self) -> None:
        pause_s = _EVERY_S
        while not self._is_stopping.wait(pause_s):
            pause_s = _EVERY_S
            try:
                if self.work() == _AT_ONCE:
                    pause_s = 0.1
            except BackupSCPError as error:
                log.debug("Nothing is made ahead: %s", error)
            except Exception as unforeseen:  # noqa: BLE001 - requests do not need this thread
                log.error("Thumbnails and metadata are made when they are asked for: %s", place_of(unforeseen))
                return
