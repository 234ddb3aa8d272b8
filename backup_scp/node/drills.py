"""Put together a drill: a scratch home that is removed, a throw-away Storage SCP, and the copy to prove."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from backup_scp.errors import ArchiveUnavailable, DestinationUnavailable, IndexUnavailable, InvalidSelection
from backup_scp.machine.process_lock import Lock, exclusive_lock, is_locked
from backup_scp.node.copy_places import open_place
from backup_scp.node.copy_setup import schedule_of
from backup_scp.node.opening import OpenStores, open_index
from backup_scp.node.remote_aes import destination, find_remote, receives_reports, timing
from backup_scp.node.settings import CopySettings, Settings
from backup_scp.node.settings.reading import read_saved
from backup_scp.node.settings.sections import ArchiveSettings, IndexSettings
from backup_scp.ports import CopyPlace, DrillKind, DrillResult, Index, RemoteAE, RestoreDestination
from backup_scp.services.drill import Drill, DrillOptions, OnProgress
from backup_scp.services.drill_images import Pace, ScratchHome
from backup_scp.watch.drill_thread import DrillSchedule, DrillTarget, DrillThread

_FOLDER = "drills"  # below the home
_PREFIX = "backup-scp-drill-"
_LOCK = "lock"
_NOT_OF_THE_COPY = {DrillKind.UNREACHABLE, DrillKind.OTHER_ARCHIVE}


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """What a drill tries.

    Attributes
    ----------
    sample
        How many images; None for all.
    to
        A test AE that gets the images too; empty for none.
    key
        File with the recovery key of a sealed copy.
    scratch
        A folder for temporary files; by default below the home.
    """

    sample: int | None = 50
    to: str = ""
    key: Path | None = None
    scratch: Path | None = None


def run_drill(
    settings: Settings,
    storage: OpenStores,
    copy: CopySettings,
    request: DrillRequest,
    *,
    pace: Pace = lambda _: None,
    on_progress: OnProgress = lambda _: None,
) -> DrillResult:
    """Do the drill of one copy, and record its result.

    Raises
    ------
    DestinationUnavailable, InvalidSettings, InvalidSelection
    ArchiveUnavailable, IndexUnavailable
    """
    place = open_place(settings, copy, storage.index)
    proves_key = _give_key(place, request.key) if copy.encrypt and request.key else None
    options = DrillOptions(request.sample, bool(copy.encrypt), proves_key, request.to)
    reports = receives_reports(settings, storage.index) if copy.url.startswith("dicom:") else contextlib.nullcontext()
    with reports, _stage(settings, request) as stage:
        drill = Drill(place, storage.archive, storage.index, stage, options, pace=pace, on_progress=on_progress)
        result = drill.run()
    if result.passed and not result.tried:
        raise DestinationUnavailable(f"It has no images yet: backup-scp copies sync {copy.name}")
    if result.passed or any(problem.kind not in _NOT_OF_THE_COPY for problem in result.problems):
        storage.index.drills.record(result)
    return result


def _give_key(place: CopyPlace, key: Path) -> Callable[[], bool] | None:
    from backup_scp.copies.cloud.cloud_copy import CloudCopy
    from backup_scp.copies.cloud.sealing import RecoveryKeys

    if not isinstance(place, CloudCopy):
        return None
    place.recovery_keys = keys = RecoveryKeys.read(key)
    return partial(place.proves, keys)


class _Stage:
    """Implements ``DrillStage``."""

    def __init__(self, settings: Settings, folder: Path, console: RemoteAE, arrived: set[str], to: str) -> None:
        self.folder = folder
        self.arrived = arrived
        self._settings = settings
        self._console = console
        self._to = to

    @contextlib.contextmanager
    def home(self) -> Iterator[ScratchHome]:
        folder = self.folder / "home"
        try:
            with OpenStores(_scratch_settings(self._settings, folder), create=True) as storage:
                yield ScratchHome(storage.archive, storage.index, folder)
        finally:
            _remove(folder)

    @contextlib.contextmanager
    def open_index(self, path: Path) -> Iterator[Index]:
        from backup_scp.index.connection.sqlite_file import damage_of_copy

        if damage := damage_of_copy(path):
            raise IndexUnavailable(f"It is damaged: {damage}")
        with contextlib.closing(open_index(_scratch_settings(self._settings, path.parent, path.name))) as index:
            yield index

    def read_settings(self, text: str) -> None:
        read_saved(text)

    def destinations(self) -> Sequence[RestoreDestination]:
        from backup_scp.dimse.association.association import LocalAE
        from backup_scp.dimse.scu.remote_ae_destination import RemoteAEDestination

        local = LocalAE(self._settings.node.ae_title, timing(self._settings), None)
        own = RemoteAEDestination(local, self._console)
        return [own, destination(self._settings, self._to)] if self._to else [own]


@contextlib.contextmanager
def _stage(settings: Settings, request: DrillRequest) -> Iterator[_Stage]:
    from backup_scp.dimse.scp.throw_away_scp import throw_away_scp

    if request.to and find_remote(settings, request.to) is None:
        raise InvalidSelection(f"{request.to} is no remote AE: name a [[remote]], or AETITLE@HOST:PORT")
    arrived: set[str] = set()
    with _scratch_folder(request.scratch or settings.home / _FOLDER) as folder, throw_away_scp(arrived) as console:
        yield _Stage(settings, folder, console, arrived, request.to)


def _scratch_settings(settings: Settings, folder: Path, index: str = "index.sqlite") -> Settings:
    url = f"sqlite:///{(folder / index).as_posix()}"
    return msgspec.structs.replace(
        settings, home=folder, archive=ArchiveSettings(reserve_mb=0), index=IndexSettings(url), copy=()
    )


@contextlib.contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder for our user alone; remove it afterwards, and those that dead processes have left.

    Raises
    ------
    ArchiveUnavailable
    """
    own = parent / f"{_PREFIX}{secrets.token_hex(8)}"
    try:
        parent.mkdir(0o700, parents=True, exist_ok=True)
        with exclusive_lock(parent / f"{_PREFIX}lock"):  # between making a folder and locking it, it looks dead
            for left in parent.glob(f"{_PREFIX}*/"):
                if not is_locked(left / _LOCK):
                    _remove(left)
            own.mkdir(0o700)
            lock = Lock(own / _LOCK)
    except OSError as error:
        raise ArchiveUnavailable(f"{parent} cannot take the drill's files ({error.strerror})") from error
    try:
        yield own
    finally:
        lock.close()
        _remove(own)


def _remove(folder: Path) -> None:
    """Remove a scratch folder with the files of its archive, which are read-only."""
    shutil.rmtree(folder, ignore_errors=True)


def drill_thread(settings: Settings, storage: OpenStores, received_at: Callable[[], float]) -> DrillThread | None:
    """Return the thread that tries copies by itself; None when the settings want none."""
    if not (settings.copy and settings.drill.every_days):
        return None
    schedule = DrillSchedule(settings.drill.every_days, settings.drill.sample, settings.drill.full_every_days)
    targets = [_target(settings, storage, copy) for copy in settings.copy]
    return DrillThread(targets, storage.index, schedule, received_at)


def _target(settings: Settings, storage: OpenStores, copy: CopySettings) -> DrillTarget:
    def run(sample: int | None, pace: Pace) -> DrillResult:
        return run_drill(settings, storage, copy, DrillRequest(sample), pace=pace)

    return DrillTarget(copy.name, schedule_of(copy), run)
