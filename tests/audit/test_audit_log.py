"""The audit log: each change is found, by us and by stock tools; crashes and several processes are no changes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.audit import audit_log
from backup_scp.audit.audit_log import AuditLog
from backup_scp.audit.log_check import check_log
from backup_scp.audit.log_record import FIRST_BEFORE, LogRecord, RecordKind, digest
from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock
from tests.processes import ROOT, peer_missing


@pytest.fixture
def folder(tmp_path):
    """Return a log of seven records: six entries, and a signature."""
    log = AuditLog(tmp_path / "audit")
    for number in range(6):
        log.append(f"<AuditMessage n='{number}'/>".encode())
    log.settle(is_end=True)
    return tmp_path / "audit"


def only_file(folder):
    (file,) = folder.glob("audit-*.log")
    return file


def stock(folder) -> subprocess.CompletedProcess[str]:
    """Run the script of docs/audit.md."""
    if not shutil.which("openssl"):
        peer_missing("openssl")
    (script,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/audit.md").read_text(), re.DOTALL)
    return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)


def test_what_was_written_is_found_right(folder):
    found = check_log(folder)
    assert (found.records, found.signatures, found.unsigned, found.problem) == (7, 1, 0, "")
    assert len(found.keys) == 1
    done = stock(folder)
    assert done.returncode == 0, done.stderr
    assert "7 records, 1 signatures" in done.stdout
    assert found.keys[0] in done.stdout


def changed(lines):
    lines[2] = lines[2].replace(b"n='2'", b"n='9'")


def removed(lines):
    del lines[2]


def moved(lines):
    lines[2], lines[3] = lines[3], lines[2]


def added(lines):
    lines.insert(2, lines[1])


def signature_of_another(lines):
    head, _, signature = lines[6].rstrip(b"\n").rpartition(b" ")
    lines[6] = head + b" " + signature[1:5] + signature[:1] + signature[5:] + b"\n"


@pytest.mark.parametrize("do", [changed, removed, moved, added, signature_of_another])
def test_whatever_is_done_to_it_is_found(folder, do):
    file = only_file(folder)
    lines = file.read_bytes().splitlines(keepends=True)
    do(lines)
    file.write_bytes(b"".join(lines))

    assert check_log(folder).problem
    assert stock(folder).returncode == 1


def test_a_chain_that_was_made_again_needs_the_key(folder, tmp_path):
    """Whoever can write the files can make digests again, and a key of their own."""
    forged = AuditLog(tmp_path / "forged")
    forged.append(b"<AuditMessage n='nothing happened'/>")
    forged.settle(is_end=True)
    public = folder / "public-key.pem"

    assert "key was replaced" in check_log(tmp_path / "forged", [public]).problem.replace("was the key", "key was")
    assert check_log(tmp_path / "forged").keys != check_log(folder).keys, "what is on paper differs"


def chained_again(folder, keeps):
    """Make all digests again without the records that are not kept, as who has no key can."""
    file, before = only_file(folder), FIRST_BEFORE
    lines: list[bytes] = []
    for record in map(LogRecord.read, file.read_bytes().splitlines(keepends=True)):
        assert record is not None
        if keeps(record):
            lines.append(LogRecord(len(lines) + 1, record.at, before, record.kind, record.content).line)
            before = digest(lines[-1])
    file.write_bytes(b"".join(lines))


def test_a_chain_that_was_made_again_without_signatures_is_found(folder):
    chained_again(folder, lambda record: record.number != 3 and record.kind is not RecordKind.SIGNED)

    assert "no signature" in check_log(folder, [folder / "public-key.pem"]).problem
    done = stock(folder)
    assert (done.returncode, "no signature" in done.stdout) == (1, True), done.stdout


def test_much_that_nobody_has_signed_is_found(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(audit_log, "_SIGN_AFTER", 10_000)
        log = AuditLog(folder)
        for _ in range(1000):
            log.append(b"<AuditMessage/>")
        assert check_log(folder).problem == ""
        log.append(b"<AuditMessage/>")

    assert "signed from record 8 on" in check_log(folder).problem


def test_what_nobody_has_signed_for_long_is_found(folder, monkeypatch):
    log = AuditLog(folder)
    for seconds in (0, 600, 601):
        monkeypatch.setattr(clock, "source", lambda s=seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
        assert check_log(folder).problem == ""
        log.append(b"<AuditMessage/>")

    assert "signed from record 8 on" in check_log(folder).problem


def test_a_process_signs_at_once_and_after_a_hundred_entries(folder):
    log = AuditLog(folder)
    log.append(b"<AuditMessage/>")
    log.settle()
    assert (check_log(folder).signatures, check_log(folder).unsigned) == (2, 0)
    for _ in range(150):
        log.append(b"<AuditMessage/>")
    assert (check_log(folder).signatures, check_log(folder).unsigned) == (3, 50)


def test_a_last_line_that_is_no_record_is_set_apart(folder):
    with only_file(folder).open("ab") as stream:
        stream.write(b"\0\0\0\n")

    log = AuditLog(folder)
    log.append(b"<AuditMessage/>")
    log.settle(is_end=True)

    assert (check_log(folder).records, check_log(folder).problem) == (10, "")
    assert stock(folder).returncode == 0


def test_it_goes_on_after_a_crash_that_cut_a_line(folder):
    file = only_file(folder)
    with file.open("ab") as stream:
        stream.write(b"8 2026-01-01T")

    log = AuditLog(folder)
    log.append(b"<AuditMessage/>")
    log.settle(is_end=True)

    found = check_log(folder)
    assert (found.records, found.problem) == (10, "")
    assert b" note A crash has cut" in file.read_bytes()
    (apart,) = folder.glob("cut-*")
    assert apart.read_bytes() == b"8 2026-01-01T"


def test_line_breaks_do_not_make_records(folder):
    log = AuditLog(folder)
    log.append(b"<a>\r\n8 x\n</a>")
    assert check_log(folder).records == 8


def test_files_follow_each_other(folder, monkeypatch):
    monkeypatch.setattr(audit_log, "_LONGEST_FILE", 100)
    log = AuditLog(folder)
    for _ in range(3):
        log.append(b"<AuditMessage/>")
    log.settle(is_end=True)

    assert [file.name for file in sorted(folder.glob("audit-*"))] == [
        f"audit-{number:015}.log" for number in (1, 8, 9, 10, 11)
    ]
    assert check_log(folder).records == 11
    assert stock(folder).returncode == 0
    (folder / f"audit-{9:015}.log").unlink()
    assert "a file is missing" in check_log(folder).problem


_APPENDS = """
import sys
from pathlib import Path
from backup_scp.audit.audit_log import AuditLog
log = AuditLog(Path(sys.argv[1]))
for number in range(50):
    log.append(f"<AuditMessage by='{sys.argv[2]}' n='{number}'/>".encode())
    log.settle(is_end=number % 10 == 9)
"""


def test_several_processes_make_one_chain(tmp_path):
    folder = tmp_path / "audit"

    def run(name: str) -> int:
        return subprocess.run([sys.executable, "-c", _APPENDS, str(folder), name], check=False, cwd=ROOT).returncode

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(run, "abc")) == {0}

    found = check_log(folder)
    assert (found.records, found.signatures, found.problem) == (168, 18, "")


def test_a_log_that_cannot_be_written_is_as_it_was(folder, monkeypatch):
    before = only_file(folder).read_bytes()
    log = AuditLog(folder)
    monkeypatch.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        log.append(b"<AuditMessage/>")
    monkeypatch.undo()

    assert only_file(folder).read_bytes() == before
    log.append(b"<AuditMessage/>")
    assert check_log(folder).problem == ""


def test_without_a_log_it_says_so(tmp_path):
    with pytest.raises(InvalidSelection, match="There is no audit log"):
        check_log(tmp_path)
