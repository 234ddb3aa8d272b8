"""Who owns files, and who we are: what a command makes has to belong to the user of the node.

A folder that another user has made beside the node's own is one into which the node cannot write.
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
    """A user of this system, and what shows that it owns something.

    Attributes
    ----------
    path
        What belongs to the user.
    """

    uid: int
    gid: int
    path: Path

    @property
    def name(self) -> str:
        """The user's name; the number where it has none."""
        return user_name(self.uid)


def our_uid() -> int | None:
    """Give the number of the user that we are; None where files have no such owner."""
    if sys.platform == "win32":
        return None
    return os.geteuid()


def user_name(uid: int) -> str:
    """Write a user's name, or its number as sudo takes it (``#1000``)."""
    if sys.platform != "win32":
        import pwd

        with suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
    return f"#{uid}"


def chown_words(name: str, *files: str, options: str) -> str:
    """Write the command that gives files to a user: ``sudo chown -R backup-scp: FOLDER``.

    One without a name has no group either, by which chown would know the colon.

    Parameters
    ----------
    name
        As ``user_name`` writes it.
    """
    user = name.removeprefix("#") if name.startswith("#") else f"{name}:"
    return " ".join(["sudo", "chown", options, shlex.quote(user), *map(shlex.quote, files)])


def owner_of(path: Path) -> Owner | None:
    """Tell who owns a file or folder; where we may not look, who owns the folder that is closed to us.

    None where there is no such file, or files have no owner.
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
    """Tell whether what we make beside it has another owner than it.

    A share or a drive of another system can give all its files one owner, whoever makes them: that is tried out.

    Parameters
    ----------
    owner
        Of a file or folder.
    probe
        How the name of a file may begin that is made in its folder, and taken away.
    """
    if owner.uid == our_uid():
        return False
    folder = owner.path if owner.path.is_dir() else owner.path.parent
    trial = folder / f"{probe}{secrets.token_hex(4)}"
    try:
        descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        return error.errno != errno.EROFS  # it is another's, and closed to us; or closed to everybody
    try:
        return os.fstat(descriptor).st_uid != owner.uid
    finally:
        os.close(descriptor)
        trial.unlink(missing_ok=True)


def become(owner: Owner) -> bool:
    """Let this process, which is root's, be the owner's from now on, for good; False where that cannot be.

    Everything that it makes belongs to the owner then, and nothing is done with root's rights in folders of another.
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
    """Say as whom this process acts, where that explains one of the reasons: root is not used to be denied anything."""
    if not _became or not any(_DENIED in reason for reason in reasons):
        return ""
    return f"typed by root, this command acts as {_became[0]}, who owns the archive: let that user read or write there"


def _can_load_modules() -> bool:
    """Tell whether what is imported later can be found by the user that we are by now; root's own home is closed."""
    folders = [folder for folder in (*sys.path, str(Path(__file__).parent)) if folder]
    return all(_is_open(folder) for folder in folders)


def _is_open(folder: str) -> bool:
    try:
        Path(folder).stat()
    except PermissionError:
        return False
    except OSError:
        return True  # there is none
    return os.access(folder, os.R_OK, effective_ids=True)


def words_to_type(owner: Owner) -> str:
    """Write this very command as the owner would give it: ``sudo -u backup-scp backup-scp status``.

    Arguments are left out: they may name a patient.
    """
    kept = [f"{name}={value}" for name in ("BACKUP_SCP_HOME", "BACKUP_SCP_CONFIG") if (value := os.environ.get(name))]
    words = ["sudo", "-u", owner.name, *(["env", *kept] if kept else []), *_program(), *_command()]
    return " ".join([shlex.join(words), *(["..."] if len(sys.argv) > 2 else [])])


def _command() -> list[str]:
    """Find the command among the words that were typed."""
    typed = iter(sys.argv[1:])
    for word in typed:
        if word == "--config":
            next(typed, None)
        elif not word.startswith("-"):
            return [word]
    return []


def _program() -> list[str]:
    """Say how this program is called, so that it is found by another user as well."""
    called = Path(sys.argv[0])
    if called.name != "backup-scp":
        return [sys.executable, "-m", "backup_scp"]
    found = shutil.which("backup-scp", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return ["backup-scp" if found else str(called.absolute())]
