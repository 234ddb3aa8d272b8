"""The built wheel is a complete node: installed alone, without the checkout, it serves."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from backup_scp.web.viewer.viewer_files import BUILT
from tests.processes import ROOT, Processes, clean_environment, peer_missing
from tests.system.node import Node

pytestmark = pytest.mark.system


def run(argv: Sequence[str | Path], cwd: Path) -> None:
    env = clean_environment(PIP_DISABLE_PIP_VERSION_CHECK="1")
    done = subprocess.run(
        list(map(str, argv)), cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder)
    return next(folder.glob("backup_scp-*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of a new environment with this wheel, and with this environment's libraries."""
    folder = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    found = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    paths = subprocess.run(
        [str(found), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = Path(paths.stdout.strip())
    run([sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", packages, wheel], folder)
    # A plain line of a .pth adds a folder, and does not read the .pth files of that folder: no editable checkout.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(found)


def test_the_wheel_carries_the_migrations_and_nothing_of_the_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()

    for migration in (ROOT / "migrations").rglob("*.py"):
        assert f"backup_scp/{migration.relative_to(ROOT).as_posix()}" in names
    assert not [name for name in names if name.startswith(("tests/", "docker/", "docs/"))]


def test_the_wheel_carries_the_viewer_as_it_was_built(wheel):
    if not (BUILT / "index.html").is_file():
        peer_missing("the viewer's page", "viewer-page")
    names = zipfile.ZipFile(wheel).namelist()

    for file in BUILT.rglob("*"):
        assert file.is_dir() or f"backup_scp/web/viewer/built/{file.relative_to(BUILT).as_posix()}" in names
    assert not [name for name in names if "viewer/source" in name or "node_modules" in name]


def test_the_installed_package_is_not_the_checkout(python, tmp_path):
    code = "import backup_scp, pathlib; print(pathlib.Path(backup_scp.__file__).resolve())"
    argv = [python, "-c", code]
    done = subprocess.run(
        argv, cwd=tmp_path, env=clean_environment(PYTHONPATH=""), capture_output=True, text=True, check=True
    )

    assert not Path(done.stdout.strip()).is_relative_to(ROOT)


def test_the_installed_package_serves_outside_a_checkout(python, tmp_path, processes: Processes):
    node = Node(tmp_path / "node", python=python, env={"PYTHONPATH": ""})
    processes.add(node.process)

    node.start()

    assert node.echo()
    node.cli("status", exit_code=None)
    node.stop()
