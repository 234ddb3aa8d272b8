"""What `setup` finds, and what it says of the next steps, as a service and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup_scp.errors import InvalidSettings
from backup_scp.node import first_settings as first
from backup_scp.node.settings import SYSTEM_FILE, load_text


def settings_of(text: str, file: Path = SYSTEM_FILE):
    return load_text(text, file, {})


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://ntfy.sh/clinic", "ntfy"),
        ("https://ntfy.clinic.example/clinic", "ntfy"),
        ("https://prod-1.westeurope.logic.azure.com/workflows", "teams"),
        ("https://hooks.slack.com/services/T", "slack"),
        ("https://clinic.example/hooks.slack.com", "json"),
    ],
)
def test_the_form_of_a_webhook(url, form):
    assert first.webhook_form(url) == form


@pytest.mark.parametrize(("answer", "port"), [("1", 1), ("104", 104), ("65535", 65535)])
def test_a_port(answer, port):
    assert first.port_number(answer) == port


@pytest.mark.parametrize("answer", ["", "0", "65536", "-1", "1e3", "\u0661", "9" * 5000])
def test_no_port(answer):
    with pytest.raises(InvalidSettings, match="1 to 65535"):
        first.port_number(answer)


def test_no_settings_file_is_wanted():
    with pytest.raises(InvalidSettings, match="unset it"):
        first.settings_file(None, {"BACKUP_SCP_CONFIG": ""})


def test_the_file_of_the_folder_that_a_variable_names(tmp_path, monkeypatch):
    monkeypatch.setattr("backup_scp.node.settings.reading.SYSTEM_FILE", tmp_path / "absent" / SYSTEM_FILE.name)
    file = tmp_path / "x-rays" / SYSTEM_FILE.name
    assert first.settings_file(None, {"BACKUP_SCP_HOME": str(tmp_path / "x-rays")}) == file
    assert first.settings_file(file, {}) == file


@pytest.fixture
def is_installed(tmp_path, monkeypatch):
    """Install the service, as far as its unit tells."""
    (tmp_path / "backup-scp.service").touch()
    monkeypatch.setattr(first, "_UNITS", (tmp_path,))


def test_a_service_is_started_by_systemd(is_installed):
    settings = settings_of(f'[node]\nhome = "{first.SERVICE_HOME}"')
    assert first.words_for_start(settings, settings, {}) == [
        "Start the node: sudo systemctl enable --now backup-scp",
    ]


def test_a_service_gets_its_folder_on_another_disk(is_installed):
    settings = settings_of(f'[node]\nhome = "{first.SERVICE_HOME}"\n[archive]\nurl = "/media/big disk/images"')
    steps = first.words_for_start(settings, settings, {})
    assert "install -d -m 0700 -o backup-scp -g backup-scp '/media/big disk/images'" in steps[0]
    assert "ReadWritePaths='/media/big disk/images'" in steps[1]
    assert "enable --now" in steps[2]


def test_a_file_that_no_command_finds_is_named(tmp_path):
    file = tmp_path / "our settings.toml"
    settings = settings_of(f'[node]\nhome = "{tmp_path}"', file)
    assert first.words_for_start(settings, settings, {"BACKUP_SCP_CONFIG": str(file)}) == [
        "Start the node: backup-scp serve"
    ]
    assert first.words_for_start(settings, settings, {"BACKUP_SCP_CONFIG": ""}) == [
        f"Start the node: backup-scp --config '{file}' serve"
    ]


def test_an_archive_is_seen_by_its_index(tmp_path):
    settings = settings_of(f'[node]\nhome = "{tmp_path}"')
    assert not first.has_images(settings)
    (tmp_path / "index.sqlite").touch()
    assert first.has_images(settings)
