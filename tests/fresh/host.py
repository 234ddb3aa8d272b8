"""The settings of this machine for apt and pip, for a system that runs inside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

_APT_OPTIONS = ("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::ForceIPv4")
_OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NETWORK = (Path("/etc/hosts"), Path("/etc/resolv.conf"))


def mirror() -> str:
    """Return the address of the Debian mirror that apt asks here; empty on another system, or where there is no apt."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    addresses = _said(*asked).split()
    return next((address for address in addresses if "security" not in address), "")


def carry_settings_into(system: Path) -> None:
    """Copy the settings of apt, pip and the network; certificates of this machine's own are trusted inside."""
    (system / "etc/apt/apt.conf.d/99host").write_text(_said("apt-config", "dump", *_APT_OPTIONS))
    files = [*_NETWORK, _CERTIFICATES, *_settings_of_pip(), *_OWN_CERTIFICATES.rglob("*.crt")]
    for file in filter(Path.is_file, files):
        inside = system / file.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.unlink(missing_ok=True)  # a link of that system would lead to a file of this machine
        shutil.copyfile(file, inside)


def folders_of_pip() -> list[str]:
    """Return the folders of this machine in which pip looks for packages."""
    return paths_in(_said(sys.executable, "-m", "pip", "config", "list"))


def paths_in(settings: str) -> list[str]:
    """Return the folders that settings of pip name; of an index, as of a file, the folder around it.

    The links of an index lead to files beside it.
    """
    found = set()
    for word in settings.replace("\\n", " ").replace("'", " ").split():
        path = Path(unquote(urlsplit(word).path) if word.startswith("file://") else word)
        if path.is_absolute() and not path.is_relative_to("/etc") and path.exists():
            found.add(path.parent if path.is_file() or word.startswith("file://") else path)
    return sorted(str(path) for path in found)


def _settings_of_pip() -> list[Path]:
    """Return the files that pip reads, and those that they name."""
    words = _said(sys.executable, "-m", "pip", "config", "debug").replace(",", " ").split()
    words += _said(sys.executable, "-m", "pip", "config", "list").replace("'", " ").split()
    return [Path(word) for word in words if word.startswith("/") and Path(word).is_file()]


def _said(*argv: str) -> str:
    if not shutil.which(argv[0]):
        return ""
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout
