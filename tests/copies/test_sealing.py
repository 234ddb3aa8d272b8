"""Sealing with age: what is sealed, who opens it, and what is said of wrong keys and damaged files."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading

import pytest

from backup_scp.copies.cloud import sealing
from backup_scp.copies.cloud.sealing import RecoveryKeys, Seal, envelope, make_keys, prove
from backup_scp.errors import DigestMismatch, InvalidSettings

PAIR, OTHER = make_keys(), make_keys()
PLAIN = os.urandom(300_000)


def sealed(plain=PLAIN, *public_keys):
    target = io.BytesIO()
    result = Seal(public_keys or [PAIR.public_key]).write(io.BytesIO(plain), target)
    return target.getvalue(), result


def opened(data, key=PAIR.recovery_key):
    target = io.BytesIO()
    RecoveryKeys(key).open(io.BytesIO(data), target)
    return target.getvalue()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 300_000])
def test_what_is_sealed_opens_again(size):
    data, result = sealed(PLAIN[:size])
    assert opened(data) == PLAIN[:size]
    assert result == (hashlib.sha256(data).hexdigest(), len(data))
    assert size < 100 or PLAIN[:size][:50] not in data


def test_each_of_several_keys_opens_it():
    data, _ = sealed(PLAIN, PAIR.public_key, OTHER.public_key)
    assert opened(data, OTHER.recovery_key) == opened(data) == PLAIN


def test_another_key_does_not():
    with pytest.raises(DigestMismatch, match="another key"):
        opened(sealed()[0], OTHER.recovery_key)


@pytest.mark.parametrize("cut", [0, 20, 150, 70_000, 300_000])
def test_a_file_that_is_cut_off_is_damaged(cut):
    with pytest.raises(DigestMismatch):
        opened(sealed()[0][:cut])


def test_a_file_with_one_other_byte_is_damaged():
    data = bytearray(sealed()[0])
    data[-1] ^= 1
    with pytest.raises(DigestMismatch, match="changed"):
        opened(bytes(data))


class Failing(io.BytesIO):
    """Fails at one of its writes or reads."""

    def __init__(self, content=b"", at=0):
        super().__init__(content)
        self.left = at

    def _count(self):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write(self, data):
        self._count()
        return super().write(data)

    def read(self, size=-1):
        self._count()
        return super().read(size)


@pytest.mark.parametrize("size", [0, 1000, 300_000])
def test_a_full_disk_is_never_taken_for_success(size):
    """The library tells nothing of its last write, and a small file has no other."""
    with pytest.raises(OSError, match="No space"):
        Seal([PAIR.public_key]).write(io.BytesIO(PLAIN[:size]), Failing())
    with pytest.raises(OSError, match="No space"):
        RecoveryKeys(PAIR.recovery_key).open(io.BytesIO(sealed(PLAIN[:1000])[0]), Failing())


def test_an_error_of_the_source_arrives_as_it_is():
    for at in (0, 3):
        with pytest.raises(OSError, match="No space"):
            Seal([PAIR.public_key]).write(Failing(PLAIN, at), io.BytesIO())
    with pytest.raises(OSError, match="No space"):
        RecoveryKeys(PAIR.recovery_key).open(Failing(sealed()[0], 2), io.BytesIO())


def test_a_raw_file_that_takes_a_part_gets_the_rest(tmp_path):
    class Halves(io.BytesIO):
        def write(self, data):
            return super().write(data[: max(1, len(data) // 2)])

    target = Halves()
    Seal([PAIR.public_key]).write(io.BytesIO(PLAIN), target)
    assert opened(target.getvalue()) == PLAIN


def test_other_threads_run_while_a_file_is_sealed():
    seen = threading.Event()

    class Source(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 1 << 20:  # the other thread needs Python's lock for this
                assert seen.wait(30)
            return super().read(size)

    other = threading.Timer(0, seen.set)
    other.start()
    Seal([PAIR.public_key]).write(Source(bytes(2 << 20)), io.BytesIO())
    other.join()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("age1", "mistyped"),
        ("", "mistyped"),
        (PAIR.public_key[:-1], "mistyped"),
        (PAIR.public_key[:-1] + ("q" if PAIR.public_key[-1] != "q" else "p"), "mistyped"),
        (PAIR.public_key.upper(), "mistyped"),
        ("ssh-ed25519 AAAAC3", "mistyped"),
        ("age1tagpq1" + "q" * 100, "another kind"),
        ("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", "another kind"),
        (PAIR.recovery_key, "does not belong on this computer"),
        (PAIR.recovery_key[:-1], "does not belong on this computer"),
    ],
    ids=range(10),
)
def test_a_wrong_public_key_is_told_in_a_sentence(key, said):
    with pytest.raises(InvalidSettings, match=said) as told:
        Seal([OTHER.public_key, key])
    assert PAIR.recovery_key[:17] not in str(told.value)


def test_without_a_key_nothing_is_sealed():
    with pytest.raises(InvalidSettings, match="at least one"):
        Seal([])


def test_a_key_file_of_age_is_read(tmp_path):
    file = tmp_path / "key.txt"
    file.write_text(f"# created: 2026-11-30\n# public key: {PAIR.public_key}\n{PAIR.recovery_key}\n\n")
    assert RecoveryKeys.read(file).public_keys == [PAIR.public_key]


def test_a_key_that_was_typed_from_paper_is_read():
    key = PAIR.recovery_key
    typed = " ".join(key[start : start + 7] for start in range(0, len(key), 7)).lower()
    assert RecoveryKeys(typed).public_keys == [PAIR.public_key]


@pytest.mark.parametrize(
    "text", ["", "# only a comment", PAIR.recovery_key[:-1], PAIR.recovery_key[:-1] + "1", "hello"], ids=range(5)
)
def test_a_wrong_recovery_key_is_told_and_not_repeated(text):
    with pytest.raises(InvalidSettings, match="ecovery key") as told:
        RecoveryKeys(text)
    assert PAIR.recovery_key[20:60] not in str(told.value)


def test_a_missing_key_file_is_told(tmp_path):
    with pytest.raises(InvalidSettings, match="cannot be read"):
        RecoveryKeys.read(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0\1")
    with pytest.raises(InvalidSettings, match="not text"):
        RecoveryKeys.read(tmp_path / "binary")


def test_the_proof():
    prove(RecoveryKeys(PAIR.recovery_key), [OTHER.public_key, PAIR.public_key])
    with pytest.raises(InvalidSettings, match="does not belong"):
        prove(RecoveryKeys(PAIR.recovery_key), [OTHER.public_key])


def test_the_envelope_says_all_and_its_key_can_be_typed_back():
    sheet = envelope(PAIR, "the practice in Mill Street", "30 November 2026")
    lines = sheet.splitlines()
    at = next(number for number, line in enumerate(lines) if "AGE-SECRET-KEY-1" in line)
    assert RecoveryKeys(" ".join(lines[at : at + 2])).public_keys == [PAIR.public_key]
    assert sheet.count("the practice in Mill Street") == sheet.count("30 November 2026") == 2
    assert max(map(len, lines)) <= 90


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyrage.x25519", None)
    with pytest.raises(InvalidSettings, match="pip install"):
        sealing.make_keys()
    with pytest.raises(InvalidSettings, match="pip install"):
        Seal([PAIR.public_key])
