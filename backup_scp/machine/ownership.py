"""Find the owner of files and become that user: files that a command creates must belong to the node's user.

The node cannot write into a folder that a command of another user has created.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_ROOT = 0
_DENIED = os.strerror(errno.EACCES)

_became: list[str] = []


class Owner(NamedTuple):
    """A user of this system, and a file or folder that it owns.

    Attributes
    ----------
    path
        The file or folder.
    """

    uid: int
    gid: int
    path: Path

    @property
    def name(self) -> str:
        """The user's name, or its number when it has none."""
        return user_name(self.uid)


def our_uid() -> int | None:
    """Return the number of this process's user; None on systems whose files have no such owner."""
    if sys.platform == "win32":
        return None
    return os.geteuid()


def user_name(uid: int) -> str:
    """Return a user's name, or its number as sudo accepts it (``#1000``)."""
    if sys.platform != "win32":
        import pwd

        with suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
    return f"#{uid}"


def chown_words(name: str, *files: str, options: str) -> str:
    """Return the command that gives files to a user: ``sudo chown -R backup-scp: FOLDER``.

    A user without a name gets no colon: chown could not find its group.

    Parameters
    ----------
    name
        As ``user_name`` returns it.
    """
    user = name.removeprefix("#") if name.startswith("#") else f"{name}:"
    return " ".join(["sudo", "chown", options, shlex.quote(user), *map(shlex.quote, files)])


def owner_of(path: Path) -> Owner | None:
    """Return the owner of a file or folder, or of the folder that denies access to it.

    None when there is no such file, or when files have no owner on this system.
    """
    if sys.platform == "win32":
        return None
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except PermissionError:
            continue
        except OSError:
            return None
        return Owner(found.st_uid, found.st_gid, place)
    return None


def belongs_to_another(owner: Owner, probe: str) -> bool:
    """Tell whether a file that this process creates beside the owner's gets another owner.

    A share or a drive of another system may give all its files the same owner.  So this creates a file and looks.

    Parameters
    ----------
    owner
        Owner of a file or folder.
    probe
        Prefix for the name of a file that is created in its folder and removed again.
    """
    if owner.uid == our_uid():
        return False
    folder = owner.path if owner.path.is_dir() else owner.path.parent
    trial = folder / f"{probe}{secrets.token_hex(4)}"
    try:
        descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        return error.errno != errno.EROFS  # otherwise nobody can write there
    try:
        return os.fstat(descriptor).st_uid != owner.uid
    finally:
        os.close(descriptor)
        trial.unlink(missing_ok=True)


def become(owner: Owner) -> bool:
    """Switch this process from root to the owner, permanently; False when that is impossible.

    All files it creates then belong to the owner, and it does nothing with root's rights in another user's folders.
    """
    if sys.platform == "win32" or os.geteuid() != _ROOT or owner.uid == _ROOT:
        return False
    import pwd

    groups, gid = [owner.gid], owner.gid
    with suppress(KeyError):
        entry = pwd.getpwuid(owner.uid)
        groups, gid = os.getgrouplist(entry.pw_name, entry.pw_gid), entry.pw_gid
    before = os.getgroups()
    try:
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(owner.uid)
        if not _can_load_modules():
            os.seteuid(_ROOT)
            os.setegid(os.getgid())
            os.setgroups(before)
            return False
        os.seteuid(_ROOT)
        os.setgid(gid)
        os.setuid(owner.uid)
    except OSError:
        return False
    _became.append(owner.name)
    return True


def why_denied(reasons: Iterable[str]) -> str:
    """Name the user that this process became, when that explains a denied access, which root does not expect."""
    if not _became or not any(_DENIED in reason for reason in reasons):
        return ""
    return f"typed by root, this command acts as {_became[0]}, who owns the archive: let that user read or write there"


def _can_load_modules() -> bool:
    """Tell whether the new user can read the modules that are imported later; they may be in root's home."""
    folders = [folder for folder in (*sys.path, str(Path(__file__).parent)) if folder]
    return all(_is_open(folder) for folder in folders)


def _is_open(folder: str) -> bool:
    try:
        Path(folder).stat()
    except PermissionError:
        return False
    except OSError:
        return True  # there is no such module
    return os.access(folder, os.R_OK, effective_ids=True)


def words_to_type(owner: Owner) -> str:
    """Return this command as the owner has to type it: ``sudo -u backup-scp backup-scp status``.

    Arguments are left out, because they may name a patient.
    """
    kept = [f"{name}={value}" for name in ("BACKUP_SCP_HOME", "BACKUP_SCP_CONFIG") if (value := os.environ.get(name))]
    words = ["sudo", "-u", owner.name, *(["env", *kept] if kept else []), *_program(), *_command()]
    return " ".join([shlex.join(words), *(["..."] if len(sys.argv) > 2 else [])])


def _command() -> list[str]:
    """Return the subcommand among the words that were typed."""
    typed = iter(sys.argv[1:])
    for word in typed:
        if word == "--config":
            next(typed, None)
        elif not word.startswith("-"):
            return [word]
    return []


def _program() -> list[str]:
    """Return the words that start this program, in a form that works for another user."""
    called = Path(sys.argv[0])
    if called.name != "backup-scp":
        return [sys.executable, "-m", "backup_scp"]
    found = shutil.which("backup-scp", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return ["backup-scp" if found else str(called.absolute())]
