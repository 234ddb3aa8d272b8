"""What the web process takes from the settings."""

from __future__ import annotations

import msgspec
import pytest

from backup_scp.errors import InvalidSettings
from backup_scp.node.settings import Settings, load
from backup_scp.node.web_main import _typed, web_options
from backup_scp.node.web_messages import Start

TOKENS = ("0123456789abcdef0123456789abcdef", "x" * 24)


@pytest.fixture
def settings(tmp_path):
    def settings(**web: str) -> Settings:
        variables = {f"BACKUP_SCP_WEB__{name}".upper(): value for name, value in web.items()}
        return load(None, {"BACKUP_SCP_HOME": str(tmp_path)} | variables)

    return settings


def test_each_line_is_a_token(settings, tmp_path):
    (tmp_path / "tokens").write_text(f"\n {TOKENS[0]} \r\n\n{TOKENS[1]}\n")
    assert web_options(settings(token_file="tokens")).tokens == frozenset(TOKENS)


@pytest.mark.parametrize("text", ["", "\n\n", "short\n", f"{TOKENS[0]}\nshort\n"])
def test_tokens_that_can_be_guessed_are_refused(settings, tmp_path, text):
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(InvalidSettings, match="24 characters"):
        web_options(settings(token_file="tokens"))


def test_a_token_file_that_is_not_there(settings):
    with pytest.raises(InvalidSettings, match=r"token_file.*cannot be read"):
        web_options(settings(token_file="nowhere"))


def test_files_are_below_the_home(settings, tmp_path):
    options = web_options(settings(certificate="c.pem", ca="ca.pem", cors='["https://viewer.example"]'))
    assert (options.certificate, options.key, options.ca) == (
        tmp_path / "c.pem", tmp_path / "c.pem", tmp_path / "ca.pem",
    )  # fmt: skip
    assert options.cors == ("https://viewer.example",)


def test_the_settings_arrive_as_they_were_read(settings):
    start = Start(settings(port="1234", cors='["https://viewer.example"]'), 7)
    line = msgspec.json.encode(start, enc_hook=str)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Start, dec_hook=_typed) == start
