"""Recovery keys as people type them."""

from __future__ import annotations

import io

import pytest

from backup_scp.copies.cloud.recovery_key import PREFIX, read_typed
from backup_scp.copies.cloud.sealing import KeyPair, RecoveryKeys, envelope, make_keys
from backup_scp.errors import InvalidSettings

KEY = "AGE-SECRET-KEY-1RVVP0CZWGZKVSS8CYSTPLKPVNPRDM3HSDESY2Z2FP0MGVMRYMZ8Q9JY4SD"
PAIR = KeyPair("age1w05r4gw2tspvsdgwpspl6n7eva3a788ggdppf6x5wkw7crp5hg4qhnksmf", KEY)
LETTERS = KEY.removeprefix(PREFIX)
GROUPS = [LETTERS[start : start + 6] for start in range(0, 58, 6)]
SHEET = envelope(PAIR, "the practice", "30 November 2026")


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"  {KEY.lower()}\r\n",
        f"{PREFIX} {' '.join(GROUPS[:5])}\n   {' '.join(GROUPS[5:])}\n",
        "\n".join([PREFIX, *GROUPS]),
        f"{PREFIX}\n\n{' '.join(GROUPS)}",
        " ".join(KEY),
        f"age secret key 1 {'-'.join(GROUPS).lower()}",
        f"AGE\N{EN DASH}SECRET\N{EN DASH}KEY\N{EN DASH}l{LETTERS}",
        KEY.replace("0", "O").replace("8", "B").replace("L", "1"),
        KEY.lower().replace("l", "i"),
        LETTERS,
        f"# created: today\n# public key: {PAIR.public_key}\n{KEY}  # a comment\n",
        SHEET,
        SHEET.upper(),
    ],
    ids=range(14),
)
def test_what_people_type_is_read(text):
    assert RecoveryKeys(text).public_keys == [PAIR.public_key]
    assert RecoveryKeys.given(text).public_keys == [PAIR.public_key]


def test_several_keys_are_read():
    other = make_keys()
    for between in ("\n", " ", "\n\n# another\n"):
        found = RecoveryKeys(f"{KEY}{between}{other.recovery_key}")
        assert found.public_keys == [PAIR.public_key, other.public_key]


def changed(at: int, letter: str) -> str:
    return f"{PREFIX}{LETTERS[:at]}{letter}{LETTERS[at + 1 :]}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There is no recovery key"),
        ("hello", "There is no recovery key"),
        (PAIR.public_key, "This is a public key"),
        (KEY[:-1], "here are 57, 1 too few"),
        (KEY + "Q", "here are 59, 1 too many"),
        (f"{PREFIX} {' '.join(GROUPS[:4] + GROUPS[5:])}", "here are 52, 6 too few"),
        (SHEET.replace(GROUPS[2], GROUPS[2][1:]), "here are 57, 1 too few"),
        (changed(0, "Q"), "look at letter 1 of group 1 after"),
        (changed(20, "Q"), "look at letter 3 of group 4"),
        (changed(57, "Q"), "look at letter 4 of group 10"),
        (changed(20, "\N{LATIN CAPITAL LETTER A WITH DIAERESIS}"), "letter 3 of group 4 after .* is in no key"),
        (f"{PREFIX}{LETTERS[:13]}{LETTERS[14]}{LETTERS[13]}{LETTERS[15:]}", "look at letters 2 and 3 of group 3"),
        (KEY.replace("RVV", "QQQ"), "compare each group"),
        (f"{KEY}\n{changed(3, 'Q')}", "Recovery key 2 is mistyped: look at letter 4 of group 1"),
    ],
    ids=range(14),
)
def test_what_is_mistyped_is_told_and_the_key_is_not_repeated(text, said):
    for read in (RecoveryKeys, RecoveryKeys.given):
        if not text.strip() or (text == "hello" and read != RecoveryKeys):
            continue
        with pytest.raises(InvalidSettings, match=said) as told:
            read(text)
        assert not [group for group in GROUPS if group in str(told.value)]


def test_a_file_is_read_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sheet of the practice.txt").write_text(SHEET)
    for name in ("sheet of the practice.txt", f"{tmp_path}/sheet of the practice.txt "):
        assert RecoveryKeys.given(name).public_keys == [PAIR.public_key]
    with pytest.raises(InvalidSettings, match="file nothing cannot be read"):
        RecoveryKeys.given("nothing")
    with pytest.raises(InvalidSettings, match="There is no recovery key") as told:
        RecoveryKeys.given(LETTERS[:-1])  # no file, and its error would repeat it
    assert LETTERS[:6] not in str(told.value)


@pytest.mark.parametrize(
    "typed",
    [f"{KEY}\nmore", f"{PREFIX} {' '.join(GROUPS[:5])}\n{' '.join(GROUPS[5:])}\nmore", f"{KEY[:-1]}\n\nmore", KEY[:-1]],
)
def test_typing_ends_with_the_last_letter_or_an_empty_line(typed):
    assert "more" not in read_typed(io.StringIO(typed))
