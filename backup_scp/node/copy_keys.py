"""Make and prove the keys of sealed copies."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock
from backup_scp.node.settings import Settings


@dataclass(frozen=True, slots=True)
class CopyKeys:
    """A key pair of sealed copies.

    Attributes
    ----------
    public_key
        For ``encrypt`` in the settings; it seals.
    sheet
        The sheet with the recovery key, to print; empty when it was written to a file, or when a key was only proved.
    file
        The file of the sheet; empty without one.
    proved
        The copies whose sealed files the recovery key opens.
    """

    public_key: str
    sheet: str = ""
    file: str = ""
    proved: tuple[str, ...] = ()


def made(settings: Settings, file: Path | None) -> CopyKeys:
    """Make a pair, and prove that it works; the recovery key is shown or written once, and stored nowhere.

    Raises
    ------
    InvalidSettings
        The library is missing.
    InvalidSelection
        The file exists, or cannot be written.
    """
    from backup_scp.copies.cloud import sealing

    pair = sealing.make_keys()
    sealing.prove(sealing.RecoveryKeys(pair.recovery_key), [pair.public_key])
    sheet = sealing.envelope(pair, settings.node.ae_title, f"{clock.now().astimezone():%Y-%m-%d}")
    if file is None:
        return CopyKeys(pair.public_key, sheet)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidSelection(f"{file} exists already: name a new file") from None
    except OSError as error:
        raise InvalidSelection(f"{file} cannot be written ({error.strerror})") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(sheet)
    return CopyKeys(pair.public_key, file=str(file))


def proved(settings: Settings, file: Path) -> CopyKeys:
    """Prove that a recovery key opens what the settings seal.

    Raises
    ------
    InvalidSettings
        It does not.
    InvalidSelection
        No copy is sealed.
    """
    from backup_scp.copies.cloud import recovery_key, sealing

    sealed = [copy for copy in settings.copy if copy.encrypt]
    if not sealed:
        raise InvalidSelection("No [[copy]] has encrypt: nothing is sealed")
    keys = (
        sealing.RecoveryKeys(recovery_key.read_typed(sys.stdin))
        if str(file) == "-"
        else sealing.RecoveryKeys.read(file)
    )
    for copy in sealed:
        sealing.prove(keys, copy.encrypt)
    return CopyKeys(keys.public_keys[0], proved=tuple(copy.name for copy in sealed))
