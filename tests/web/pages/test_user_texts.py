"""Login, account and refusals in the languages of the people who use them."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import backup_scp
from backup_scp.web.pages.page_texts import FOR_USERS, languages, texts_in, user_texts_in
from tests.web.pages.test_login_pages import (  # noqa: F401 - fixtures
    PASSWORD,
    add,
    browser,
    form_of,
    log_in,
    stored_hash,
)

TRANSLATED = [language for language in languages(FOR_USERS) if language != "en"]
GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
SPANISH = {"Accept-Language": "es"}


def sections(language: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((FOR_USERS / f"{language}.toml").read_text("utf-8"))


@pytest.mark.parametrize("language", TRANSLATED)
def test_each_language_has_the_same_words_and_places(language):
    english, own, first = texts_in("en"), sections(language), sections(TRANSLATED[0])
    assert {name: set(words) for name, words in own.items()} == {name: set(words) for name, words in first.items()}
    for section, words in own.items():
        for name, text in words.items():
            before = name if section == "sentences" else english._words[f"{section}.{name}"]
            assert sorted(re.findall(r"{\w+}|#", text)) == sorted(re.findall(r"{\w+}|#", before)), name
    whole = ("login", "link", "account", "codes", "passkeys", "role")
    ours = {name for name in english._words if name.startswith(tuple(f"{section}." for section in whole))}
    assert {name for name in ours if name.partition(".")[2] not in own[name.partition(".")[0]]} == set()


def plain(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "#"


def said_in(code: str) -> Iterator[str]:
    """Yield the texts of a module, with # for values and numbers."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            yield re.sub("[0-9]+", "#", "".join(map(plain, node.values)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub("[0-9]+", "#", node.value)


def test_each_sentence_is_one_that_the_node_says():
    modules = Path(backup_scp.__file__).parent.rglob("*.py")
    said = {sentence for module in modules for sentence in said_in(module.read_text("utf-8"))}
    assert set(sections(TRANSLATED[0])["sentences"]) - said == set()


def test_numbers_keep_their_places():
    german = user_texts_in("de")
    assert " 17 Sekunden" in german.said("Too many attempts have failed: wait 17 seconds, and try again")
    assert "hat 2 bis 64 Buch" in german.said("A user's name has 2 to 64 letters, digits, signs and blanks")
    assert german.said("What nobody has translated, 5 times") == "What nobody has translated, 5 times"
    assert user_texts_in("en").said("Name, password or code is wrong") == "Name, password or code is wrong"


def test_a_login_in_german_and_spanish(browser, add):  # noqa: F811
    add("anna")
    for headers, language, title, wrong in (
        (GERMAN, "de", "Anmelden", "Name, Passwort "),
        (SPANISH, "es", "Iniciar sesión", "El nombre, la contraseña o el código no es correcto"),
        ({"Accept-Language": "en, de"}, "en", "Log in", "Name, password or code is wrong"),
    ):
        page = browser.get("/login", headers=headers).text
        assert (f'<html lang="{language}">' in page, f"<h1>{title}</h1>" in page) == (True, True)
        form = form_of(browser, "/login") | {"name": "anna", "password": "wrong wrong wrong"}
        assert wrong in browser.post("/login", data=form, headers=headers).text
    log_in(browser)
    assert "Mein Konto: anna" in browser.get("/account", headers=GERMAN).text
    assert "Mi cuenta: anna" in browser.get("/account", headers=SPANISH).text
    differ = form_of(browser, "/account") | {"current": PASSWORD, "password": "x", "again": "y"}
    assert "Die beiden Passwörter" in browser.post("/account/password", data=differ, headers=GERMAN).text
    studies = browser.get("/studies", headers=GERMAN).text
    assert '<html lang="en">' in studies


def test_a_refusal_in_german(browser, add):  # noqa: F811
    add("anna")
    page = browser.get("/link?token=x", headers=GERMAN)
    assert (page.status_code, "Dieser Link wurde benutzt" in page.text) == (404, True)
