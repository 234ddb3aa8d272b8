"""backup-scp serve; it starts without typer, which takes longer to load than all of pynetdicom."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from backup_scp.cli.log import configure, escape
from backup_scp.machine.addresses import EVERY_ADDRESS

if TYPE_CHECKING:
    from backup_scp.node.start_report import Ready


def serve(config: Path | None, *, json: bool = False) -> None:
    """Run the node with the settings of a file, or without a file.

    Raises
    ------
    BackupSCPError
        The node cannot start.
    """
    gc.disable()  # loaded modules stay: searching them for garbage would take a quarter of the start
    try:
        from backup_scp.node import supervisor
        from backup_scp.node.front import SettingsAgain
        from backup_scp.node.opening import require_owner
        from backup_scp.node.settings import find_file, load

        settings = load(find_file(config))
        require_owner(settings)  # before the log file is created, which the node could not write
        configure(settings, daemon=True)
        again = SettingsAgain(lambda: load(find_file(config)), lambda other: configure(other, daemon=True))
        supervisor.serve(settings, _ToProgram() if json else ToPerson(), again)
    finally:
        gc.enable()  # enabled already, if the node has run


def _say(line: str) -> None:
    """Print a line at once, as its reader may wait at a pipe; a node whose window was closed goes on without."""
    try:
        print(escape(line), flush=True)
    except OSError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is buffered would fail again at the end


class ToPerson:
    """Prints lines for a person."""

    def ready(self, ready: Ready) -> None:
        record = ready.record
        where = "all addresses" if record.host in EVERY_ADDRESS else record.host
        plain = f"port {record.port}" if record.port else ""
        secured = f"with TLS port {record.tls_port}" if record.tls_port else ""
        listens = " and ".join(filter(None, (plain, secured)))
        _say(f"backup-scp {record.version} is ready: AE title {record.ae_title}, {listens} on {where}")
        _say(f"Consoles send to: {record.where}")
        if record.web_address:
            _say(f"In a browser: {record.web_address.removesuffix('dicom-web')} shows the state, and the images")
            _say(f"DICOMweb: {record.web_address}")
        if ready.first_link:
            _say("There is no administrator yet. This link makes one, once, within an hour; give it to nobody:")
            _say(ready.first_link)
        _say(f"Images are stored in {ready.archive}, the index is {ready.index}")
        _say("Stop it with Ctrl-C; README.md says how to configure a DR console")
        if record.web_trouble:
            _say(f"Attention: {record.web_trouble}")
        for remark in ready.remarks:
            _say(f"Attention: {remark}")
        for trouble in ready.troubles:
            _say(f"Attention: nothing can be stored now. {trouble}")

    def stopping(self) -> None:
        _say("Stopping: images in progress are completed first")

    def stopped(self) -> None:
        _say("Stopped")


class _ToProgram:
    """Prints one object when the node is ready."""

    def ready(self, ready: Ready) -> None:
        import msgspec

        print(msgspec.json.encode(ready).decode(), flush=True)

    def stopping(self) -> None:
        pass

    def stopped(self) -> None:
        pass
