"""The container image, built by buildah: its user has no rights, its root is read-only, its data is in one volume."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fresh.base_system import base_system, copy_of
from tests.fresh.host import carry_settings_into, folders_of_pip
from tests.processes import ROOT, Process, Processes, free_port
from tests.samples import dx, encode
from tests.system import raw_sender
from tests.system.node import Remote
from tests.system.raw_sender import contexts_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

# What a container runtime does: --read-only --tmpfs /tmp --volume DATA:/data --cap-drop ALL, and no new privileges.
_AS_A_CONTAINER = """
set -e
root=$1 data=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount --bind "$data" "$root/data"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all "$@"
"""


class Image:
    """An image in a store of its own.  A Debian of this machine takes the place of the image that it is made from."""

    def __init__(self, folder: Path) -> None:
        self._store = ["--root", str(folder / "store"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
        base = copy_of(base_system(), folder / "base")
        carry_settings_into(base)  # where pip finds its packages
        self._make_base(base)
        shutil.rmtree(base)
        volumes = [f"--volume={path}:{path}:ro" for path in folders_of_pip()]
        variables = [f"--env={name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
        options = ["--isolation=chroot", "--format=docker", "--build-arg=BASE=localhost/base", *volumes, *variables]
        self("build", *options, f"--file={ROOT / 'docker/Dockerfile'}", "--tag=backup-scp", str(ROOT))
        self.config: dict[str, Any] = json.loads(self("inspect", "--type=image", "backup-scp"))["Docker"]["config"]
        self.container = self("from", "backup-scp")
        self.root = Path(self("mount", self.container))

    def _make_base(self, base: Path) -> None:
        container = self("from", "scratch")
        self("copy", "--quiet", container, str(base), "/")
        self("commit", "--quiet", container, "base")
        self("rm", container)

    def __call__(self, *argv: str) -> str:
        done = subprocess.run(["buildah", *self._store, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{argv}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def command(self, data: Path, *argv: str) -> list[str]:
        """Return how a runtime runs a command of the image, without a network of its own."""
        user = self.config["User"]
        enter = ["unshare", "--mount", "--propagation=private", "sh", "-c", _AS_A_CONTAINER, "container"]
        return [*enter, str(self.root), str(data), user, "env", f"--chdir={self.config['WorkingDir']}", *argv]

    def environment(self, **more: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config["Env"]) | more


@pytest.fixture
def image(tmp_path) -> Iterator[Image]:
    found = Image(tmp_path)
    yield found
    found("umount", found.container)
    shutil.rmtree(tmp_path / "store")


@pytest.fixture
def data(tmp_path) -> Path:
    """Return the folder of the volume, as a runtime makes it: with owner and mode of the image's folder."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    os.chown(folder, 11112, 11112)
    return folder


def test_it_serves_from_a_read_only_root_as_a_user_without_rights(image, data, tmp_path, processes: Processes):
    assert image.config["User"] == "11112:11112"
    assert image.config["Volumes"] == {"/data": {}}
    assert image.config["StopSignal"] == "SIGTERM"

    port = free_port()
    web = str(free_port())
    env = image.environment(BACKUP_SCP_NODE__PORT=str(port), BACKUP_SCP_WEB__PORT=web)
    serve = image.command(data, *image.config["Entrypoint"], *image.config["Cmd"])
    node = Process(serve, tmp_path / "node.log", env)
    processes.add(node)
    node.launch(lambda: f"port {port} on all addresses" in node.output)
    image_sent = encode(dx())
    with raw_sender.Association(Remote("node", "BACKUP_SCP", port), contexts_of(image_sent)) as console:
        assert console.store(image_sent).status == 0

    # The check of a runtime finds it well.
    shell, *check = image.config["Healthcheck"]["Test"]
    assert shell == "CMD"
    assert subprocess.run(image.command(data, *check), env=env, check=False).returncode == 0
    # Nobody writes outside of the volume.
    touched = subprocess.run(
        image.command(data, "touch", "/opt/backup-scp/touched"), env=env, capture_output=True, text=True, check=False
    )
    assert "Read-only file system" in touched.stderr

    assert node.terminate() == 0
    assert list((data / "archive").rglob("*.dcm"))
    assert {path.owner() for path in data.rglob("*") if path.stat().st_uid == os.geteuid()} == set()
