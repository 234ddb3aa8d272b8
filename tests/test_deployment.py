"""The files that deploy the node are valid for their own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.processes import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"
UNIT = ROOT / "conf" / "backup-scp.service"


def run(program: str, *arguments: str | Path) -> None:
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    argv = [found, *map(str, arguments)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def unit(tmp_path):
    """The unit with a program that exists here in place of the installed one."""
    program = tmp_path / "backup-scp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^(ExecStart|ExecReload)=\S+", rf"\1={program}", UNIT.read_text()))
    return copy


def test_systemd_accepts_the_unit(unit):
    run("systemd-analyze", "verify", "--man=no", unit)


def test_the_unit_is_hardened(unit):
    run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", unit)


def test_the_unit_and_the_settings_for_commands_name_one_folder():
    """Commands find the archive by the settings file, the service by its unit."""
    text = UNIT.read_text()
    assert "Environment=BACKUP_SCP_HOME=%S/backup-scp " in text  # %S is /var/lib
    (pattern, line) = re.findall(r"sed --in-place 's\|(.*)\|(.*)\|' /etc/backup-scp/backup-scp.toml", text)[0]
    changed, number = re.subn(f"(?m){pattern}", line, (ROOT / "conf" / "backup-scp.toml").read_text())
    assert number == 1
    assert tomllib.loads(changed)["node"] == {"home": "/var/lib/backup-scp"}


def test_hadolint_accepts_the_dockerfile():
    run("hadolint", "--failure-threshold", "style", DOCKERFILE)


def test_the_compose_file_follows_its_schema():
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_the_image_contains_every_file_that_the_package_is_built_from():
    copied = {word for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ") for word in line.split()}
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()

    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "backup_scp", "migrations"):
        assert name in copied
        assert f"!{name}" in ignored


def test_the_image_does_not_run_as_root():
    users = re.findall(r"(?m)^USER (\S+)", DOCKERFILE.read_text())

    assert users == ["11112:11112"]
