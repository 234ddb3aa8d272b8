"""The log: what it may contain, and what cannot be forged in it."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path

import pytest

from backup_scp.cli.log import JSONFormatter, LineFormatter, configure
from backup_scp.errors import InvalidSettings
from backup_scp.node.settings import load

HOSTILE = "AE\r\n2026-01-01 ERROR forged\x1b[2J\u2028"


def record(message, *arguments, error=None):
    exc_info = None
    if error:
        try:
            raise error
        except type(error):
            exc_info = sys.exc_info()
    return logging.LogRecord(
        "backup_scp.dimse.association.server", logging.INFO, __file__, 1, message, arguments, exc_info
    )


@pytest.mark.parametrize("formatter", [LineFormatter(), JSONFormatter()])
class TestFormats:
    def test_a_value_from_the_network_cannot_forge_a_line(self, formatter):
        line = formatter.format(record("Association from %s", HOSTILE))
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line

    def test_an_exception_says_where_and_not_what(self, formatter):
        line = formatter.format(record("It failed", error=ValueError("Müller^Hans")))
        assert "Müller" not in line
        assert "ValueError" in line
        assert "test_log" in line or "record line" in line


def test_a_line_for_people():
    line = LineFormatter().format(record("Listening on port %d", 11112))
    assert line.endswith("Z INFO    dimse.association.server: Listening on port 11112")


def test_a_line_for_programs():
    found = json.loads(JSONFormatter().format(record("Listening on port %d", 11112)))
    assert found.keys() == {"time", "level", "logger", "message"}
    assert (found["level"], found["message"]) == ("INFO", "Listening on port 11112")


@pytest.fixture
def configured(home, monkeypatch):
    """Configure the log, and restore the previous handlers."""
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    ours = logging.getLogger("backup_scp")
    before = (ours.handlers[:], ours.level, ours.propagate)

    def configured(daemon=True, **environment):
        configure(load(None, {"BACKUP_SCP_HOME": str(home), **environment}), daemon=daemon)
        return ours

    yield configured
    for handler in ours.handlers:
        handler.close()
    ours.handlers, ours.level, ours.propagate = before[0], before[1], before[2]


def test_to_a_file(configured, home):
    configured(BACKUP_SCP_LOG__FILE="logs/node.log").info("Hello")
    assert "Hello" in (home / "logs" / "node.log").read_text()


def test_a_name_that_is_no_text_goes_to_a_file_too(configured, home, capsys):
    """What Python makes of a folder's name on a Linux disk that is not UTF-8: the line is kept, and no traceback."""
    folder = b"/mnt/B\xfcro".decode("utf-8", "surrogateescape")
    configured(BACKUP_SCP_LOG__FILE="logs/node.log").warning("Not written to %s", folder)
    assert r"Not written to /mnt/B\udcfcro" in (home / "logs" / "node.log").read_text("utf-8")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("daemon", [True, False])
def test_the_node_looks_for_nothing_that_no_line_says(configured, daemon):
    found: list[logging.LogRecord] = []
    log = configured(daemon=daemon)
    log.addFilter(found.append)
    log.error("Hello")
    log.removeFilter(found.append)
    is_looked_for = (found[0].lineno != 0, found[0].threadName is not None, found[0].process is not None)
    assert is_looked_for == (not daemon,) * 3


def test_a_file_that_cannot_be_written(configured, home):
    (home / "logs").touch()
    with pytest.raises(InvalidSettings, match=r"\[log\] file"):
        configured(BACKUP_SCP_LOG__FILE="logs/node.log")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full: /dev/full")
def test_a_disk_that_is_full(configured, capsys):
    """The line is lost, the work continues, and no traceback is printed."""
    log = configured(BACKUP_SCP_LOG__FILE="/dev/full")
    log.info("Hello")
    with contextlib.suppress(OSError):
        log.handlers[0].close()
    assert capsys.readouterr().err == ""


def test_the_level(configured, capsys):
    log = configured(BACKUP_SCP_LOG__LEVEL="WARNING")
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in (err := capsys.readouterr().err)
    assert "loud" in err


def test_a_command_prints_its_results_and_not_the_log(configured, capsys):
    configured(daemon=False).error("What the command says itself")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("library", ["pydicom", "pynetdicom", "pynetdicom.acse", "sqlalchemy.engine"])
def test_the_libraries_are_silent(configured, library):
    configured(BACKUP_SCP_LOG__LEVEL="DEBUG")
    assert not logging.getLogger(library).isEnabledFor(logging.CRITICAL)
