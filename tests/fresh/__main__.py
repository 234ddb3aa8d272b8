"""Run `make test` on fresh systems: a minimal Debian each, made by debootstrap (`make test-fresh`, Linux, root).

A system is entered in a mount and a PID namespace of its own, so that its mounts and processes end with it.  /dev, /sys
and the network are the host's.  What the host has set for apt and pip (mirror, proxy, index, certificates) holds inside
as well, so that it works behind a proxy; nothing of it is written into the checkout.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fresh.host import carry_settings_into, folders_of_pip, mirror
from tests.processes import ROOT

SUITES = ("bookworm", "trixie")
_CHECKOUT = "root/backup-scp"
# The shell stays process 1, and so reaps what ends without a parent: tests wait for processes to be gone.
_ENTER = """
set -e
new=$1; shift
mount --bind "$new" "$new"
mount -t proc proc "$new/proc"
for folder in "$@"; do mkdir -p "$new$folder"; mount --rbind "$folder" "$new$folder"; done
cd "$new"
mkdir -p old
pivot_root . old
umount --lazy /old
rmdir /old
cd /root
/bin/sh -exc "$COMMANDS" </dev/null && status=0 || status=$?
exit $status
"""
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
_NEWCOMER = f"""
apt-get update --quiet=2
apt-get install --yes --no-install-recommends --quiet=2 git make python3 >/dev/null
cd /{_CHECKOUT}
make $TARGET
"""


def main() -> int:
    """Run each suite, print a line for each at the end, and return how many failed."""
    parser = argparse.ArgumentParser(prog="make test-fresh", description=__doc__)
    parser.add_argument("--suites", nargs="+", default=SUITES, metavar="SUITE", help="releases of Debian")
    parser.add_argument("--mirror", default=mirror(), help="of Debian; else that of this machine's apt")
    parser.add_argument("--target", default="test", help="what make is asked for")
    parser.add_argument("--folder", type=Path, help="where the systems are made; a temporary folder")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for program in ("debootstrap", "unshare", "pivot_root", "git"):
        if not shutil.which(program):
            print(f"{program} is missing. Install it: apt-get install debootstrap util-linux git", file=sys.stderr)
            return 2
    if os.geteuid() != 0:
        print("Only root can make and enter a system: sudo make test-fresh", file=sys.stderr)
        return 2
    try:
        results = [f"{suite}: {_tried(suite, asked)}" for suite in asked.suites]
    except KeyboardInterrupt:
        print("\nStopped; the systems are removed", file=sys.stderr)
        return 130
    print("\n".join(["", *results]))
    return sum("passed" not in result for result in results)


def _tried(suite: str, asked: argparse.Namespace) -> str:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"backup-scp-{suite}-", dir=asked.folder) as folder:
        system = Path(folder) / "system"
        try:
            _make(suite, system, asked.mirror)
            _enter(system, asked.target)
        except subprocess.CalledProcessError as error:
            return f"FAILED with {error.returncode} after {_minutes(began)}"
    return f"passed in {_minutes(began)}"


def _make(suite: str, system: Path, mirror_url: str) -> None:
    print(f"{suite}: making a minimal system", flush=True)
    argv = [*_NAMESPACES, "debootstrap", "--variant=minbase", suite, str(system), *filter(None, [mirror_url])]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    carry_settings_into(system)
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(system / _CHECKOUT)], check=True)


def _enter(system: Path, target: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name.lower().startswith("pip_")}
    inherited |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "CI": "true",  # a system test that is skipped has failed
        "COMMANDS": _NEWCOMER,
        "TARGET": target,
    }
    argv = [*_NAMESPACES, "/bin/sh", "-c", _ENTER, "enter", str(system), "/dev", "/sys", *folders_of_pip()]
    subprocess.run(argv, check=True, env=inherited | env)


def _minutes(began: float) -> str:
    return f"{(time.monotonic() - began) / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
