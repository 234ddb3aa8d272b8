"""The settings: defaults, sources, errors and their sentences."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from backup_scp.errors import InvalidSelection, InvalidSettings
from backup_scp.node.settings import CopySettings, RemoteSettings, Sections, Settings, find_file, load, reading
from backup_scp.ports import EVERY_SERVICE, RemoteAE

CONF = Path(__file__).parents[2] / "conf" / "backup-scp.toml"

TWO_REMOTES = """
[[remote]]
name = "console"
ae_title = "DR1"
host = "192.0.2.1"

[[remote]]
name = "viewer"
ae_title = "VIEWER"
host = "192.0.2.2"
port = 11112
site = "Clinic Łódź"
"""


@pytest.fixture
def read(tmp_path):
    def read(text="", **environment) -> Settings:
        file = tmp_path / "settings.toml"
        file.write_text(text, "utf-8")
        return load(file, environment)

    return read


class TestConfFile:
    """conf/backup-scp.toml describes what the code does."""

    @staticmethod
    def uncommented() -> dict:
        lines = CONF.read_text("utf-8").splitlines()
        return tomllib.loads("\n".join(re.sub(r"^#(?=\[\[|\w+ = )", "", line) for line in lines))

    def test_every_setting_stands_there_with_its_default(self):
        documented = self.uncommented()
        defaults = msgspec.json.decode(msgspec.json.encode(Sections()))  # with lists for tuples
        for name, kind in (("remote", RemoteSettings), ("copy", CopySettings)):
            del defaults[name]
            listed = documented.pop(name)[0]
            fields = msgspec.structs.fields(kind)
            assert listed.keys() == {field.name for field in fields}
            for field in fields:
                if not field.required:
                    default = field.default
                    assert listed[field.name] == (list(default) if isinstance(default, tuple) else default), field.name
        assert documented == defaults

    def test_it_can_be_used_as_it_is(self):
        assert msgspec.structs.replace(load(CONF, {}), file=None) == load(None, {})

    def test_it_can_be_used_with_everything_uncommented(self, tmp_path):
        text = "\n".join(re.sub(r"^#(?=\[\[|\w+ = )", "", line) for line in CONF.read_text("utf-8").splitlines())
        (tmp_path / "s.toml").write_text(text, "utf-8")
        assert load(tmp_path / "s.toml", {}).find_remote("console") is not None

    def test_every_setting_has_a_comment(self):
        blocks = re.split(r"\n\s*\n", CONF.read_text("utf-8"))
        for block in blocks:
            lines = block.strip().splitlines()
            if re.match(r"#\w+ = ", lines[-1]):
                assert len(lines) > 1, lines[-1]
                assert lines[0].startswith("# "), lines[-1]


class TestWeb:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.5"])
    def test_this_computer_needs_no_login(self, read, host):
        assert read(f"[web]\nhost = '{host}'").web.host == host

    @pytest.mark.parametrize("key", ["key", "ca"])
    def test_no_key_without_a_certificate(self, read, key):
        with pytest.raises(InvalidSettings, match=rf"\[web\] {key}: set certificate"):
            read(f"[web]\n{key} = 'x.pem'")

    @pytest.mark.parametrize("origin", ["*", "viewer.example", "https://viewer.example/", "https://*.example"])
    def test_pages_are_named_one_by_one(self, read, origin):
        with pytest.raises(InvalidSettings, match="cors: name each page"):
            read(f"[web]\ncors = ['{origin}']")

    @pytest.mark.parametrize("url", ["pacs.example", "ftp://pacs.example", "https://pacs.example?x", "https://a@b"])
    def test_a_public_url(self, read, url):
        with pytest.raises(InvalidSettings, match="public_url: name scheme"):
            read(f"[web]\ntoken_file = 'tokens'\npublic_url = '{url}'")
        assert read("[web]\ntoken_file = 'tokens'\npublic_url = 'https://pacs.example/backup'").web.public_url

    def test_proxies_are_addresses(self, read):
        assert read("[web]\nproxies = ['10.0.0.5', '10.1.0.0/16', '::1']").web.proxies
        with pytest.raises(InvalidSettings, match="proxies: name each by address"):
            read("[web]\nproxies = ['proxy.example']")


class TestSources:
    def test_defaults_need_no_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        settings = load(None, {})
        assert settings.home == tmp_path / "backup-scp-data"
        assert settings.node.ae_title == "BACKUP_SCP"
        assert settings.archive_path == settings.home / "archive"
        assert settings.index_url == f"sqlite:///{settings.home}/index.sqlite"
        assert settings.remotes == ()

    def test_the_environment_wins_over_the_file(self, read):
        settings = read("[node]\nport = 1\nhost = '::'", BACKUP_SCP_NODE__PORT="2")
        assert (settings.node.port, settings.node.host) == (2, "::")

    @pytest.mark.parametrize(("text", "value"), [("false", False), ("0", False), ("true", True), ("1", True)])
    def test_a_yes_or_no_in_the_environment(self, read, text, value):
        assert read(BACKUP_SCP_NODE__CHECK_CALLED_AE_TITLE=text).node.check_called_ae_title is value

    def test_text_in_the_environment_stays_text(self, read):
        assert read(BACKUP_SCP_NODE__AE_TITLE="123").node.ae_title == "123"

    def test_the_environment_replaces_the_remote_list(self, read):
        value = '[{"name": "pacs", "ae_title": "PACS", "host": "pacs.example", "port": 104}]'
        assert [r.name for r in read(TWO_REMOTES, BACKUP_SCP_REMOTE=value).remotes] == ["pacs"]

    def test_a_list_of_texts_in_the_environment(self, read):
        assert read(BACKUP_SCP_PLAN__CONTACTS='["Dr. Doe", "IT"]').plan.contacts == ("Dr. Doe", "IT")
        with pytest.raises(InvalidSettings, match="BACKUP_SCP_PLAN__CONTACTS"):
            read(BACKUP_SCP_PLAN__CONTACTS="Dr. Doe")

    def test_home_from_the_environment(self, read, tmp_path):
        settings = read(BACKUP_SCP_HOME=str(tmp_path / "elsewhere"))
        assert settings.archive_path == tmp_path / "elsewhere" / "archive"

    def test_the_order_in_which_the_folder_of_all_data_is_named(self, read, tmp_path):
        file, ours, other = f"[node]\nhome = '{tmp_path}/file'", str(tmp_path / "ours"), str(tmp_path / "other")
        assert read(file).home == tmp_path / "file"
        assert read(file, BACKUP_SCP_NODE__HOME=other).home == tmp_path / "other"
        found = read(file, BACKUP_SCP_NODE__HOME=other, BACKUP_SCP_HOME=ours)
        assert (found.home, found.home_source) == (tmp_path / "ours", "BACKUP_SCP_HOME")

    def test_a_folder_in_the_file_is_the_same_wherever_a_command_is_typed(self, read, tmp_path, monkeypatch):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        found = read("[node]\nhome = 'data'")
        assert found.home == tmp_path / "data"
        assert found.home_source == f"[node] home in {tmp_path / 'settings.toml'}"

    def test_what_a_container_platform_puts_there_is_no_setting(self, read):
        read(
            BACKUP_SCP_PORT="tcp://10.0.0.1:11112",
            BACKUP_SCP_SERVICE_HOST="10.0.0.1",
            BACKUP_SCP_SERVICE_PORT_DICOM="11112",
            BACKUP_SCP_PORT_11112_TCP_ADDR="10.0.0.1",
            BACKUP_SCP_TEST_FAULTS="all",
        )

    def test_the_file_of_the_system_is_read_where_none_is_named(self, tmp_path, monkeypatch):
        system, named = tmp_path / "system.toml", tmp_path / "named.toml"
        monkeypatch.setattr(reading, "SYSTEM_FILE", system)
        assert find_file(None, {}) is None
        system.touch()
        assert find_file(None, {}) == system
        assert find_file(None, {"BACKUP_SCP_CONFIG": str(named)}) == named
        assert find_file(None, {"BACKUP_SCP_CONFIG": ""}) is None
        assert find_file(named, {"BACKUP_SCP_CONFIG": "other.toml"}) == named

    def test_a_byte_order_mark_is_skipped(self, tmp_path):
        (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbf[node]\nport = 5\n")
        assert load(tmp_path / "s.toml", {}).node.port == 5


class TestPlaces:
    def test_paths_are_relative_to_home(self, read, tmp_path):
        settings = read("[archive]\nurl = 'files'\n[log]\nfile = 'node.log'", BACKUP_SCP_HOME=str(tmp_path))
        assert settings.archive_path == tmp_path / "files"
        assert settings.log_path == tmp_path / "node.log"

    @pytest.mark.parametrize("url", ["/srv/a%20b", "file:///srv/a%2520b", "file://localhost/srv/a%2520b"])
    def test_absolute_archive(self, read, url):
        assert read(f"[archive]\nurl = '{url}'").archive_path == Path("/srv/a%20b")

    @pytest.mark.parametrize("url", ["s3://bucket", "https://example/x", "file://host/share"])
    def test_archives_that_this_version_does_not_know(self, read, url):
        with pytest.raises(InvalidSettings, match=r", line 2: \[archive\] url: "):
            read(f"[archive]\nurl = '{url}'")

    def test_sqlite_elsewhere(self, read, tmp_path):
        home = {"BACKUP_SCP_HOME": str(tmp_path)}
        assert read("[index]\nurl = 'sqlite:///other.db'", **home).index_url == f"sqlite:///{tmp_path}/other.db"
        assert read("[index]\nurl = 'sqlite:////srv/i.db'", **home).index_url == "sqlite:////srv/i.db"

    def test_postgresql(self, read):
        settings = read("[index]\nurl = 'postgresql://u:p@h/d'")
        assert settings.index_url == "postgresql://u:p@h/d"
        assert not settings.index_is_embedded

    @pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "nonsense-secret"])
    def test_other_databases_are_refused_and_passwords_not_repeated(self, read, url):
        with pytest.raises(InvalidSettings, match=r", line 2: \[index\] url: ") as caught:
            read(f"[index]\nurl = '{url}'")
        assert "secret" not in str(caught.value)


A_REMOTE = "[[remote]]\nname='x'\nae_title='X'\nhost='192.0.2.9'\n"
REFUSED = [
    ("[node]\nport = 'x'", "[node] port: expected a whole number"),
    ("[node]\nport = true", "[node] port: expected a whole number"),
    ("[node]\nport = 65536", "[node] port: expected a whole number, at most 65535"),
    ("[node]\nprot = 1", "[node]: there is no setting prot"),
    ("[node]\nprot = 1", "did you mean port?"),
    ("[node]\nprot = 1", "the settings there are home, ae_title, host, port"),
    ("[nod]\nport = 1", "there is no section nod; did you mean [node]?"),
    ("[nod]\nport = 1", "the sections are [node], [tls]"),
    ("strict_hierarchy = true", "strict_hierarchy stands above all sections: put it below [node]"),
    ("port = 1", "port stands above all sections: put it below [node] or [tls]"),
    ('[archive]\nurl = "D:\\backup"', "[archive] url: it holds a control character ('\\x08')"),
    ('[archive]\nurl = "D:\\backup"', "write a Windows path in 'single quotes'"),
    ('[[remote]]\nname="x"\nae_title="X"\nhost="h\\n"', "[[remote]] number 1, host: it holds a control"),
    ("node = 1", "[node]: expected a section in [brackets]"),
    ("[node]\nae_title = ' '", "ae_title is empty"),
    ("[node]\nae_title = 'a\\b'", "no backslash"),
    ("[node]\nae_title = 'Łódź'", "of ASCII"),
    ('[node]\nae_title = "a\\tb"', "of ASCII"),
    ("[node]\nae_title = '12345678901234567'", "at most 16 characters"),
    ("[node]\nidle_timeout_s = 0", "a number above 0"),
    ("[node]\nhost = ''", "expected some text"),
    ("[log]\nlevel = 'LOUD'", '[log] level: expected "DEBUG", "INFO", "WARNING" or "ERROR"'),
    ("[remote]\nname = 'x'", "[[remote]] in double brackets"),
    ("[[remote]]\nname = 'x'\nae_title = 'X'", "[[remote]] number 1: host is missing"),
    ("[[remote]]\nname = 'x'\nae_title = 'X'\nhost = 'h'\nprot = 1", "[[remote]] number 1: there is no setting prot"),
    (f"{TWO_REMOTES}\n[[remote]]\nname='x'\nae_title='X'\nhost='h'\nport=0", "[[remote]] number 3, port"),
    (f"{TWO_REMOTES}\n[[remote]]\nname='viewer'\nae_title='X'\nhost='h'", "two [[remote]] have the name viewer"),
    (f"{TWO_REMOTES}\n[[remote]]\nname='x'\nae_title='DR1'\nhost='192.0.2.1'", "have the AE title DR1 at one host"),
    (f"{TWO_REMOTES}\n[[remote]]\nname='DR1'\nae_title='X'\nhost='h'", "another [[remote]]'s AE title"),
    ("[[remote]]\nname='../x'\nae_title='X'\nhost='h'", "a name is letters"),
    (f"{A_REMOTE}user_identity='name'", "users: list the names that"),
    (f"{A_REMOTE}users=['anna']", "users: set user_identity as well"),
    (f"{A_REMOTE}user_identity='password'", "others could read the secret; set certificate and key in [tls]"),
    (f"{A_REMOTE}user_identity='token'", "others could read the secret; set certificate and key in [tls]"),
    (f"{A_REMOTE.replace('192.0.2.9', 'localhost')}user_identity='token'", "name who signs the tokens"),
    (f"{A_REMOTE}user_identity='name'\nusers=['a']\nbrings_sites=['b']", "another backup-scp names its clinic there"),
    ("[audit]\nsyslog='udp://log.example:514'", '[audit]: syslog: write "tls://HOST:PORT"'),
    ("[audit]\nsyslog='tls://log.example:99999'", 'syslog: write "tls://HOST:PORT"'),
    ("[audit]\nca='ca.pem'", "name the server in syslog as well"),
    ("[audit]\nsyslog='tls://log.example'\nkey='key.pem'", "key: name its certificate as well"),
    ("[[copy]]\nname='../x'\nurl='file:///x'", "a name is letters"),
    ("[[copy]]\nname='x'", "[[copy]] number 1: url is missing"),
    ("[[copy]]\nname='x'\nurl='/media/x'", "[[copy]] number 1: url: write file:///FOLDER, s3://"),
    ("[[copy]]\nname='x'\nurl='file:///x'\nhours='8-9'", "[[copy]] number 1: hours: write the begin and the end"),
    ("[[copy]]\nname='x'\nurl='file:///x'\nencrypt='age1'", "[[copy]] number 1, encrypt: expected a list"),
    ("[[copy]]\nname='x'\nurl='file:///x'\n[[copy]]\nname='x'\nurl='file:///y'", "two [[copy]] have the name x"),
    ("[[copy]]\nname='x'\nurl='file:///x'\nencrpt=['age1']", "did you mean encrypt?"),
    ("[copy]\nname = 'x'", "[[copy]] in double brackets"),
    ("node = ", "is not TOML"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_refused_in_one_sentence(read, text, words):
    with pytest.raises(InvalidSettings, match=re.escape(words)) as caught:
        read(text)
    sentence = str(caught.value)
    assert "settings.toml" in sentence
    assert "\n" not in sentence
    assert "`" not in sentence


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("BACKUP_SCP_NODE__PORT", "x", "BACKUP_SCP_NODE__PORT: expected a whole number"),
        ("BACKUP_SCP_NODE__PROT", "1", "[node] has no setting prot"),
        ("BACKUP_SCP_NODE__PROT", "1", "did you mean BACKUP_SCP_NODE__PORT?"),
        ("BACKUP_SCP_NODE_PORT", "1", "that is no setting; did you mean BACKUP_SCP_NODE__PORT?"),
        ("BACKUP_SCP_PORT", "1", "did you mean BACKUP_SCP_NODE__PORT or BACKUP_SCP_TLS__PORT or BACKUP_SCP_WEB__PORT?"),
        ("BACKUP_SCP_NODE_MAXIMUM_PDU_LENGTH", "9", "did you mean BACKUP_SCP_NODE__MAXIMUM_PDU_LENGTH?"),
        ("BACKUP_SCP_HOMES", "/x", "did you mean BACKUP_SCP_HOME?"),
        ("BACKUP_SCP_ELEPHANT", "", "BACKUP_SCP_ELEPHANT: that is no setting; conf/backup-scp.toml explains"),
        ("BACKUP_SCP_ARCHIVE__URL", "D:\backup", "control character"),
        ("BACKUP_SCP_NOED__PORT", "1", "there is no section [noed]"),
        ("BACKUP_SCP_REMOTE__0__HOST", "h", "there is no section [remote]"),
        ("BACKUP_SCP_REMOTE", "host", "is not JSON"),
        ("BACKUP_SCP_REMOTE", '{"name": "x"}', "a list"),
        ("BACKUP_SCP_NODE__AE_TITLE", " ", "ae_title is empty"),
    ],
)
def test_refused_from_the_environment(read, variable, value, words):
    with pytest.raises(InvalidSettings, match=re.escape(words)) as caught:
        read(**{variable: value})
    assert "settings.toml" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe[\0"])
def test_a_file_that_cannot_be_read(tmp_path, content):
    file = tmp_path / "s.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidSettings, match=r"s\.toml"):
        load(file, {})


@pytest.mark.skipif(os.name == "nt", reason="it is a drive there")
@pytest.mark.parametrize("text", ["[archive]\nurl = 'D:\\backup'", "[archive]\nurl = 'd:/x'", "[node]\nhome = 'D:'"])
def test_a_drive_of_windows_where_there_is_none(read, text):
    with pytest.raises(InvalidSettings, match="is a drive of Windows, and this is not Windows"):
        read(text)


def test_no_port_at_all_is_refused(read):
    with pytest.raises(InvalidSettings, match="plain = false leaves no port: set certificate and key"):
        read("[node]\nplain = false")


class TestRemotes:
    def test_the_settings_are_the_facts_of_a_remote_ae(self):
        facts = {field.name: field.default for field in dataclasses.fields(RemoteAE)}
        settings = {field.name: field.default for field in msgspec.structs.fields(RemoteSettings)}
        assert facts.pop("tls_required") is False  # both are tls there
        assert facts.pop("services") == EVERY_SERVICE
        assert facts.pop("certificate") == frozenset()
        assert (settings.pop("services"), settings.pop("query"), settings.pop("certificate")) == ((), True, ())
        missing = {dataclasses.MISSING: None, msgspec.NODEFAULT: None}
        assert {k: missing.get(v, v) for k, v in facts.items()} == {k: missing.get(v, v) for k, v in settings.items()}

    @pytest.mark.parametrize(
        ("tls", "is_used", "is_required"), [("false", False, False), ("true", True, False), ('"required"', True, True)]
    )
    def test_tls_is_ours_or_required_of_both(self, read, tls, is_used, is_required):
        secured = "[tls]\ncertificate = 'c'\nkey = 'k'\nca = 'a'\n"
        (remote,) = read(f"{secured}[[remote]]\nname = 'x'\nae_title = 'X'\nhost = 'h'\ntls = {tls}").remotes
        assert (remote.tls, remote.tls_required) == (is_used, is_required)

    @pytest.mark.parametrize("tls", ["true", '"required"'])
    def test_tls_needs_certificates(self, read, tls):
        with pytest.raises(InvalidSettings, match="set certificate, key and ca"):
            read(f"[[remote]]\nname = 'x'\nae_title = 'X'\nhost = 'h'\ntls = {tls}")

    def test_tls_is_nothing_else(self, read):
        with pytest.raises(InvalidSettings, match="tls"):
            read("[[remote]]\nname = 'x'\nae_title = 'X'\nhost = 'h'\ntls = 'sometimes'")

    def test_by_name_or_ae_title(self, read):
        settings = read(TWO_REMOTES)
        viewer = RemoteAE("viewer", "VIEWER", "192.0.2.2", 11112, "Clinic Łódź")
        assert settings.find_remote("viewer") == settings.find_remote("VIEWER") == viewer
        assert settings.find_remote("nobody") is None

    def test_an_ae_title_of_two_hosts_is_told_apart_by_name(self, read):
        settings = read(TWO_REMOTES + "[[remote]]\nname = 'other'\nae_title = 'DR1'\nhost = '192.0.2.9'")
        assert settings.find_remote("other").host == "192.0.2.9"
        with pytest.raises(InvalidSelection, match="console, other"):
            settings.find_remote("DR1")

    def test_blanks_around_an_ae_title_do_not_count(self, read):
        settings = read("[node]\nae_title = ' A B '\n[[remote]]\nname='x'\nae_title='X '\nhost='h'")
        assert settings.node.ae_title == "A B"
        assert settings.find_remote("X") is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[log]\nlevel = "LOUD"', '[log] level: expected "DEBUG", "INFO", "WARNING" or "ERROR"'),
        (
            '[[copy]]\nname = "a"\nurl = "file:///x"\noff_site = "maybe"',
            'number 1, off_site: expected "", "yes" or "no"',
        ),
        ('[[remote]]\nname = "a"\nae_title = "A"\nhost = "h"\ntls = "x"', 'tls: expected true, false or "required"'),
    ],
)
def test_a_value_that_is_none_of_the_few_is_told_with_those(read, text, words):
    with pytest.raises(InvalidSettings, match=re.escape(words)):
        read(text)


def test_the_same_in_the_environment(read):
    with pytest.raises(InvalidSettings, match='BACKUP_SCP_LOG__LEVEL: expected "DEBUG", "INFO"'):
        read(BACKUP_SCP_LOG__LEVEL="LOUD")


def test_the_file_in_the_data_folder_is_read_where_the_system_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "SYSTEM_FILE", tmp_path / "system" / "backup-scp.toml")
    environment = {"BACKUP_SCP_HOME": str(tmp_path)}
    assert find_file(None, environment) is None
    (tmp_path / "backup-scp.toml").touch()
    assert find_file(None, environment) == tmp_path / "backup-scp.toml"
    monkeypatch.setattr(reading, "SYSTEM_FILE", tmp_path / "backup-scp.toml")
    assert find_file(None, {}) == tmp_path / "backup-scp.toml"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[node]\n# port = 1\nport = 99999", 3),
        ("[log]\nlevel = 'INFO'\n\n[node]\nport = 1\nprot = 2", 6),
        (
            "[[remote]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\n[[remote]]\nname = 'b'\nport = 'x'",
            7,
        ),
        ("[[remote]]\nname = 'a'\nae_title = 'A'", 1),
        ("[node]\nport = 1\n[nodes]\nport = 2", 3),
        ("[node]\nport = \n", 2),
    ],
)
def test_the_line_of_a_mistake_is_said(read, text, line):
    with pytest.raises(InvalidSettings, match=rf"line {line}\b"):
        read(text)
