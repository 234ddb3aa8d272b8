"""Bring an archive back from what is no copy of ours, by a command of ours beside the running node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backup_scp.cli import import_folders, pull
from backup_scp.cli.output import print_json, say
from backup_scp.cli.recovery_watch import RecoveryEnd
from backup_scp.cli.serve import ToPerson
from backup_scp.machine import clock

if TYPE_CHECKING:
    from backup_scp.node.recovery_report import RecoveryReport
    from backup_scp.node.settings import Settings
    from backup_scp.node.start_report import Ready


@dataclass(frozen=True, slots=True)
class OtherSource:
    """A source that is no copy of ours.

    Attributes
    ----------
    source
        A folder of DICOM files, or another PACS.
    is_folder
        Which of the two.
    """

    source: str
    is_folder: bool

    def command(self, settings_file: Path, throttle: float) -> list[str]:
        """Return what a person would type to bring its images in."""
        limit = ["--throttle", str(throttle)] if throttle else []
        return ["import" if self.is_folder else "pull", self.source, *limit, "--config", str(settings_file)]

    def read(self, output: bytes) -> tuple[Callable[[], None], RecoveryReport]:
        """Return what prints the result for a person, and the report of it.

        Raises
        ------
        msgspec.MsgspecError
            The command has printed no result.
        """
        import msgspec

        from backup_scp.node.recovery_report import report_of_import, report_of_pull
        from backup_scp.services.import_result import Imported
        from backup_scp.services.pull_result import Pulled

        done: Any
        if self.is_folder:
            done = msgspec.json.decode(output, type=Imported)
            return lambda: import_folders.tell(done), report_of_import(done)
        done = msgspec.json.decode(output, type=Pulled)
        return lambda: pull.tell(done), report_of_pull(done)


class RecoveryBeside(ToPerson):
    """Runs the command while the node runs, and writes the receipt when it has ended by itself."""

    def __init__(
        self, settings: Settings, other: OtherSource, command: list[str], *, stop_when_done: bool, json: bool
    ) -> None:
        self._settings = settings
        self._other = other
        self._command = [sys.executable, "-m", "backup_scp", *command, "--json"]
        self._json = json
        self._stop_when_done = stop_when_done
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = False
        self.is_well = True

    def ready(self, ready: Ready) -> None:
        if not self._json:
            super().ready(ready)
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)  # noqa: S603 - ourselves
        threading.Thread(target=self._wait, args=(self._process, clock.now()), name="beside", daemon=True).start()

    def stopping(self) -> None:
        self._is_stopping = True
        if not self._json:
            super().stopping()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stopped(self) -> None:
        if not self._json:
            super().stopped()

    def _wait(self, process: subprocess.Popen[bytes], began_at: datetime) -> None:
        output, _ = process.communicate()
        self.is_well = process.returncode == 0
        try:
            self._finish(output, began_at)
        finally:
            if self._stop_when_done:
                os.kill(os.getpid(), signal.SIGTERM)

    def _finish(self, output: bytes, began_at: datetime) -> None:
        import msgspec

        try:
            tell, report = self._other.read(output)
        except msgspec.MsgspecError:
            return  # the command has told why it has no result
        if not self._json:
            tell()
        if not self._is_stopping:
            self._conclude(report, began_at)

    def _conclude(self, report: RecoveryReport, began_at: datetime) -> None:
        from backup_scp.node.opening import open_index
        from backup_scp.node.recovery_receipt import write_receipts

        home = self._settings.home
        with closing(open_index(self._settings, migrate=False)) as index:
            images = index.holdings().versions
            receipts = write_receipts(home, index, report, self._other.source, began_at)
        if self._json:
            missing = report.missing_count
            print_json(RecoveryEnd(images, missing, began_at, clock.now(), report.sentence))
        elif receipts:
            say(f"The receipt is {home / receipts[0].stem}, as {', '.join(path.suffix[1:] for path in receipts)}")
