from __future__ import annotations

import pytest

from backup_scp.errors import InvalidSelection
from backup_scp.services import passwords

GOOD = "correct horse battery"


@pytest.fixture(scope="module")
def stored() -> str:
    return passwords.hashed(GOOD)


def test_the_hash_is_argon2id_with_the_parameters_of_rfc_9106(stored):
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.hashed(GOOD) != stored


def test_compared(stored):
    assert passwords.is_right(stored, GOOD)
    assert not passwords.is_right(stored, GOOD + "!")
    assert not passwords.is_right("", GOOD)
    assert not passwords.is_right("no hash", GOOD)


def test_one_form_of_unicode(stored):
    assert passwords.is_right(passwords.hashed("grüne Wiese im Mai"), "gru\u0308ne Wiese im Mai")


def test_an_older_hash_is_noticed(stored):
    from argon2 import PasswordHasher

    assert not passwords.is_outdated(stored)
    assert passwords.is_outdated(PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("x"))


@pytest.mark.parametrize(
    "password", [GOOD, "Zahnrad-Teich-Lampe", "x7#kQ9!vLm2p", "пароль для архива", "sieben rote Äpfel"]
)
def test_good(password):
    passwords.require_good(password, "anna")


@pytest.mark.parametrize(
    "password",
    [
        "short", "elevenchars", "aaaaaaaaaaaaaaa", "abababababab", "password1234", "P@ssw0rd2024!", "Summer2024!!!",
        "qwertyuiop12", "qwertzuiopas", "123456789012", "abcdefghijklm", "zyxwvutsrqponm", "passwordpassword",
        "RadiologiePraxis", "welcome-welcome", "anna-maria-1970", "I am Anna B.", "839201746512", "x" * 600,
        "!!!!password!!!!", "lkjhgfdsapoiuytrewq",
    ],
)  # fmt: skip
def test_easy_to_guess(password):
    with pytest.raises(InvalidSelection):
        passwords.require_good(password, "Anna B.")


def test_the_sentence_does_not_repeat_it():
    with pytest.raises(InvalidSelection) as raised:
        passwords.require_good("passwordpassword", "anna")
    assert "passwordp" not in str(raised.value)


def test_a_short_name_may_be_part_of_a_word():
    passwords.require_good("sieben rote Lampen", "Ben")
    with pytest.raises(InvalidSelection, match="name in it"):
        passwords.require_good("ben rote Lampen", "Ben")
