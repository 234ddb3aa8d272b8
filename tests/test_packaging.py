"""The built wheel is a complete node: installed alone, without the checkout, it serves."""

from __future__ import annotations

import hashlib
import os
import shutil
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

_NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", "build", "dist", "__pycache__", "node_modules", "*-data"
)


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


@pytest.mark.parametrize("kind", ["--wheel", "--sdist"])
def test_whoever_builds_the_same_source_gets_the_same_bytes(tmp_path, kind):
    """Another folder, other times and other rights of the files change nothing."""
    there = shutil.copytree(ROOT, tmp_path / "source", ignore=_NOT_SOURCE)
    for path in there.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(path.stat().st_mode & ~0o077)
    made: list[str] = []
    for source in (ROOT, there):
        folder = tmp_path / f"made-{len(made)}"
        run([sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", folder, source], tmp_path)
        (archive,) = folder.iterdir()
        made.append(hashlib.sha256(archive.read_bytes()).hexdigest())

    assert made[0] == made[1]


def test_a_wheel_made_from_the_source_archive_is_the_same(wheel, tmp_path):
    run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT], tmp_path
    )  # the one from the other

    (again,) = tmp_path.glob("*.whl")
    assert again.read_bytes() == wheel.read_bytes()


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
