"""Settings: what is shown, how a change is previewed and written, and what is refused."""

from __future__ import annotations

import html
import logging
import os
import re
import stat

import pytest

from backup_scp.node.settings import CopySettings, RemoteSettings, load
from backup_scp.ports import SettingsKind
from backup_scp.services.permissions import RIGHTS, CallerKind, Right
from backup_scp.web.options import WebOptions
from backup_scp.web.pages.settings_form import FIELDS
from tests.processes import free_port
from tests.web.pages.conftest import ELSEWHERE, TOKEN

REMOTE = {
    "kind": "remote",
    "which": "",
    "name": "ct",
    "ae_title": "CT",
    "host": "192.0.2.9",
    "port": "104",
    "query": "on",
    "destination": "on",
    "tls": "no",
    "user_identity": "none",
    "site": "",
    "sites": "",
    "check_address": "on",
    "commitment_port": "0",
}
COPY = {
    "kind": "copy",
    "which": "",
    "name": "drive",
    "url": "file:///media/backup/x-rays",
    "off_site": "",
    "encrypt": "",
    "hours": "20:00-06:30",
    "mb_per_s": "0",
    "gb_per_month": "0",
    "compare_days": "90",
    "away_days": "8",
    "ca": "",
    "endpoint": "",
    "region": "",
    "access_key": "",
    "secret_key_file": "",
    "lock_days": "0",
    "checksum": "",
    "user": "",
    "password_file": "",
    "token_file": "",
    "rclone_config": "",
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "settings.toml"


@pytest.fixture
def home(tmp_path):
    return {"BACKUP_SCP_HOME": str(tmp_path)}


@pytest.fixture
def browse(make_pages, file, home):
    """Return ``browse(text)``: the pages of a node that was started with this file, None for none."""

    def browse(text: str | None, environment=None, **more):
        if text is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(text, "utf-8")
        running = load(None if text is None else file, home | (environment or {}))
        return make_pages(running=running, environment=home | (environment or {}), **more)

    return browse


def send(client, path: str, fields: dict[str, str], **headers):
    token = re.search(r'name="token" value="([^"]+)"', client.get("/settings/entry?kind=remote", **headers).text)
    assert token
    return client.post(f"/settings/{path}", data={"token": token[1]} | fields, **headers)


def lines_of(page) -> list[tuple[str, str]]:
    """Return the lines of a difference, as a browser shows them."""
    found = re.findall(r'<li class="(\w+)"><span class="mark">[^<]*</span><code>(.*?)</code></li>', page.text)
    return [(kind, html.unescape(text)) for kind, text in found]


def write(client, page, **headers):
    key = re.search(r'name="key" value="([^"]+)"', page.text)
    assert key, page.text
    return send(client, "write", {"key": key[1]}, **headers)


def test_every_setting_has_a_field():
    for kind, struct in ((SettingsKind.REMOTE, RemoteSettings), (SettingsKind.COPY, CopySettings)):
        assert sorted(field.name for field in FIELDS[kind]) == sorted(struct.__struct_fields__)


def test_devices_and_copies_are_shown(browse):
    text = browse(
        '[[remote]]\nname = "ct"\nae_title = "CT_1"\nhost = "192.0.2.9"\nport = 4242\nsite = "North"\nquery = false\n'
        '[[copy]]\nname = "cloud"\nurl = "s3://bucket/x"\nhours = "20:00-06:00"\naccess_key = "AKIASECRET"\n'
    ).get("/settings")
    for words in ("CT_1", "192.0.2.9, port 4242", "North", "only send to us", "s3://bucket/x", "20:00-06:00"):
        assert words in text.text
    assert "set, and not shown" in text.text
    assert "AKIASECRET" not in text.text


SECRETS = """[index]
url = "postgresql://us:hunter2@db/x"

[alerts]
webhook = "https://chat.example/T0PS3CRET"
heartbeat = "https://hc.example/T0PS3CRET"

[[copy]]
name = "cloud"
url = "s3://bucket/x"
access_key = "AKIASECRET"
secret_key_file = "s3-key"
#access_key = "OLDSECRET"
"""


def test_no_secret_is_on_any_page(browse, tmp_path):
    (tmp_path / "s3-key").write_text("secret\n")
    client = browse(SECRETS)
    form = client.get("/settings/entry?kind=copy&name=cloud").text
    changed = COPY | {"which": "cloud", "name": "cloud", "url": "s3://bucket/x", "secret_key_file": "s3-key"}
    page = send(client, "preview", changed | {"hours": "", "away_days": "9"})
    assert ("added", "away_days = 9") in lines_of(page)
    for secret in ("hunter2", "T0PS3CRET", "AKIASECRET", "OLDSECRET"):
        assert secret not in form + page.text
    assert write(client, page).status_code == 303


def test_a_device_is_added_changed_and_removed(browse, file, caplog):
    before = (
        '# ours\n[node]\nae_title = "A"  # as the console has it\n\n[[remote]]\nname = "dx"\nae_title = "DX"\n'
        'host = "192.0.2.7" # by cable\n\n# the copies\n[[copy]]\nname = "drive"\nurl = "file:///media/x"\n'
    )
    client = browse(before)
    page = send(client, "preview", REMOTE)
    added = ["[[remote]]", 'name = "ct"', 'ae_title = "CT"', 'host = "192.0.2.9"', "port = 104"]
    assert [text for kind, text in lines_of(page) if kind == "added"] == [*added, " "]
    assert file.read_text() == before
    with caplog.at_level(logging.INFO):
        assert write(client, page).headers["location"] == "/settings"
    assert "[[remote]] ct was added on the page, by this machine at 127.0.0.1" in caplog.text
    one = before.replace("# by cable\n", "# by cable\n\n" + "\n".join(added) + "\n")
    assert file.read_text() == one
    assert "not in use yet" in client.get("/settings").text
    assert "sudo backup-scp reload" in client.get("/settings").text

    page = send(client, "preview", REMOTE | {"which": "dx", "name": "dx", "ae_title": "DX", "host": "192.0.2.8"})
    assert lines_of(page).count(("removed", 'host = "192.0.2.7" # by cable')) == 1
    write(client, page)
    two = one.replace("192.0.2.7", "192.0.2.8")
    assert file.read_text() == two

    page = send(client, "preview", {"kind": "remote", "which": "ct", "remove": "on"})
    write(client, page)
    assert file.read_text() == before.replace("192.0.2.7", "192.0.2.8")
    backups = sorted(path.read_text() for path in file.parent.glob("settings.toml.2*Z"))
    assert backups == sorted([before, one, two])
    for backup in file.parent.glob("settings.toml.2*Z"):
        assert backup.name in client.get("/settings").text


def test_a_removed_device_is_used_until_the_file_is_read_again(browse):
    client = browse('[[remote]]\nname = "ct"\nae_title = "CT"\nhost = "192.0.2.9"\n')
    write(client, send(client, "preview", {"kind": "remote", "which": "ct", "remove": "on"}))
    assert (
        "ct is no more in the file; the node uses it until you let it read the file again"
        in client.get("/settings").text
    )


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"port": "70000"}, "port", "a whole number, at most 65535"),
        ({"port": "x<b>"}, "port", "a whole number"),
        ({"port": ""}, "port", "a whole number"),
        ({"ae_title": ""}, "ae_title", "1 to 16 characters"),
        ({"ae_title": "A" * 17}, "ae_title", "at most 16 characters"),
        ({"ae_title": "A\\B"}, "ae_title", "no backslash"),
        ({"host": ""}, "host", "some text"),
        ({"name": "../x"}, "name", "letters, digits"),
        ({"name": "dx-room-1"}, "name", "give each its own"),
        ({"ae_title": "DX", "host": "192.0.2.7"}, "ae_title", "at one host"),
        ({"tls": "yes"}, "tls", "certificate"),
        ({"tls": "perhaps"}, "tls", 'true, false or "required"'),
        ({"host": "a\x07b"}, "host", "control character"),
        ({"commitment_port": "-1"}, "commitment_port", "at least 0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_nothing_is_written(pages, file, fields, field, words):
    before = file.read_bytes()
    page = send(pages, "preview", REMOTE | fields)
    assert page.status_code == 400
    assert words in html.unescape(page.text)
    assert re.search(rf'id="f_{field}"[^>]*aria-invalid="true"', page.text), page.text
    assert "<b>" not in page.text
    assert file.read_bytes() == before
    assert len(list(file.parent.glob("settings.toml*"))) == 1


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"url": "/media/x"}, "url", "file:///FOLDER"),
        ({"url": "ftp://x/y"}, "url", "file:///FOLDER"),
        ({"hours": "late"}, "hours", "hours"),
        ({"away_days": "soon"}, "away_days", "a number"),
        ({"url": "dicomweb+http://pacs.example/x"}, "url", "https"),
        ({"url": "rclone:a,b=c:x"}, "url", "rclone"),
        ({"url": "s3://b/x", "access_key": "AKIA"}, "", "secret_key_file"),
        ({"encrypt": "age1nonsense"}, "encrypt", "age1"),
        ({"url": "s3://b/x", "secret_key_file": "/etc/shadow"}, "secret_key_file", "without a folder"),
        ({"password_file": "../x"}, "password_file", "without a folder"),
        ({"rclone_config": "~/rclone.conf"}, "rclone_config", "without a folder"),
    ],
)
def test_a_copy_that_cannot_be_used_is_refused(pages, file, fields, field, words):
    before = file.read_bytes()
    page = send(pages, "preview", COPY | fields)
    assert page.status_code == 400, page.text
    assert words in html.unescape(page.text)
    assert not field or re.search(rf'id="f_{field}"[^>]*aria-invalid="true"', page.text), page.text
    assert file.read_bytes() == before


def test_a_password_never_goes_to_another_server(browse, home, file):
    (file.parent / "password").write_text("secret\n")
    client = browse(
        '[[copy]]\nname = "pacs"\nurl = "dicomweb+https://pacs.example/x"\nuser = "u"\npassword_file = "password"\n'
    )
    kept = COPY | {"which": "pacs", "name": "pacs", "hours": "", "user": "u", "password_file": "password"}
    page = send(client, "preview", kept | {"url": "dicomweb+https://evil.example/x"})
    assert page.status_code == 400
    assert "would go to another server" in page.text
    page = send(client, "preview", kept | {"url": "dicomweb+https://pacs.example/x", "compare_days": "30"})
    assert [line for line in lines_of(page) if line[0] != "same"] == [("added", "compare_days = 30")]


def test_a_copy_is_added(browse, file):
    client = browse("")
    page = send(client, "preview", COPY | {"off_site": "no", "mb_per_s": "2.5"})
    write(client, page)
    (copy,) = load(file, {}).copy
    assert (copy.name, copy.url, copy.hours, copy.mb_per_s, copy.off_site) == (
        "drive",
        "file:///media/backup/x-rays",
        "20:00-06:30",
        2.5,
        "no",
    )
    assert "compare_days" not in file.read_text()


def test_a_file_that_somebody_changed_meanwhile_is_not_written(pages, file):
    page = send(pages, "preview", REMOTE)
    file.write_text(changed := file.read_text() + "# by hand\n")
    answer = write(pages, page)
    assert answer.status_code == 409
    assert "was changed since" in answer.text
    assert file.read_text() == changed
    again = write(pages, page)
    assert again.status_code == 409
    assert "begin again" in again.text


def test_a_preview_is_written_once(pages, file):
    page = send(pages, "preview", REMOTE)
    assert write(pages, page).status_code == 303
    written = file.read_bytes()
    assert write(pages, page).status_code == 409
    assert file.read_bytes() == written


def test_mode_and_owner_stay_and_a_link_stays_a_link(browse, file):
    client = browse("")
    real = file.with_name("real.toml")
    file.rename(real)
    file.symlink_to(real)
    real.chmod(0o640)
    before = real.stat()
    write(client, send(client, "preview", REMOTE))
    after = real.stat()
    assert file.is_symlink()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert [path.stat().st_ino for path in file.parent.glob("real.toml.2*Z")] == [before.st_ino]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner here")
def test_a_file_that_the_node_may_not_write(browse, file, monkeypatch):
    from backup_scp.node import settings_on_disk

    client = browse("")
    monkeypatch.setattr(settings_on_disk, "our_uid", lambda: os.geteuid() + 1)  # root may write everywhere
    page = send(client, "preview", REMOTE)
    assert "belongs to" in page.text
    assert f"sudoedit {file}" in page.text
    assert 'name="key"' not in page.text
    assert ("added", "[[remote]]") in lines_of(page)
    assert "belongs to" in client.get("/settings").text


def test_a_write_that_fails_changes_nothing(browse, file, monkeypatch):
    client = browse("# mine\n")
    page = send(client, "preview", REMOTE)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    answer = write(client, page)
    assert answer.status_code == 503
    assert "No space left on device" in answer.text
    assert file.read_text() == "# mine\n"
    assert not list(file.parent.glob("*.part"))


def test_without_a_file_the_first_change_makes_one(browse, tmp_path):
    client = browse(None)
    made = tmp_path / "backup-scp.toml"
    page = client.get("/settings").text
    assert str(made) in page
    assert "The first change here makes it" in page
    write(client, send(client, "preview", REMOTE))
    assert made.read_text().startswith("# Settings of backup-scp")
    assert load(made, {}).find_remote("ct") is not None
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert "not in use yet" in client.get("/settings").text


def test_where_the_environment_wants_no_file(browse):
    client = browse(None, {"BACKUP_SCP_CONFIG": ""})
    page = client.get("/settings").text
    assert "BACKUP_SCP_CONFIG is set and empty" in page
    assert "/settings/entry" not in page
    assert send(client, "preview", REMOTE).status_code == 400


def test_what_comes_from_the_environment_is_shown_and_stays(browse, file):
    environment = {
        "BACKUP_SCP_REMOTE": '[{"name": "env-ct", "ae_title": "CT", "host": "192.0.2.9"}]',
        "BACKUP_SCP_NODE__AE_TITLE": "FROM_ENV",
    }
    client = browse('[[remote]]\nname = "filed"\nae_title = "F"\nhost = "192.0.2.1"\n', environment)
    page = client.get("/settings").text
    assert "env-ct" in page
    assert "filed" not in page
    assert "comes from the variable BACKUP_SCP_REMOTE" in page
    assert "from BACKUP_SCP_NODE__AE_TITLE" in page
    assert "/settings/entry?kind=remote" not in page
    answer = send(client, "preview", REMOTE)
    assert answer.status_code == 400
    assert "BACKUP_SCP_REMOTE replaces" in answer.text
    assert send(client, "preview", COPY).status_code == 200


def test_a_file_that_cannot_be_used_is_told(browse, file):
    client = browse('[[remote]]\nname = "ct"\nae_title = "CT"\nhost = "192.0.2.9"\n')
    file.write_text('[[remote]]\nname = "<b>ct"\nport = "x"\n')
    page = client.get("/settings").text
    assert "The settings file cannot be used" in page
    assert "192.0.2.9" in page  # what the node has
    assert "/settings/entry" not in page
    assert send(client, "preview", REMOTE).status_code == 400


def test_markup_is_shown_as_text(browse):
    client = browse('[[remote]]\nname = "ct"\nae_title = "<B>CT"\nhost = "<i>h</i>"\nsite = "<script>x</script>"\n')
    for page in (client.get("/settings"), client.get("/settings/entry?kind=remote&name=ct")):
        assert "<script>x" not in page.text
        assert "<B>" not in page.text
        assert "&lt;i&gt;h&lt;/i&gt;" in page.text
    page = send(client, "preview", REMOTE | {"name": "new", "site": '"<img src=x>"'})
    assert ("added", 'site = "\\"<img src=x>\\""') in lines_of(page)
    assert "<img" not in page.text


def test_a_device_is_tried(browse):
    port = free_port()
    client = browse(f'[[remote]]\nname = "ct"\nae_title = "CT"\nhost = "127.0.0.1"\nport = {port}\n')
    page = send(client, "try", {"kind": "remote", "which": "ct"})
    assert page.status_code == 200
    assert f"no connection to 127.0.0.1 port {port} (the port is closed: connection refused)" in page.text
    assert "does its firewall open it?" in page.text
    assert send(client, "try", {"kind": "remote", "which": "other"}).status_code == 404
    assert send(client, "try", {"kind": "node", "which": "ct"}).status_code == 404


def test_a_copy_is_tried(browse, tmp_path):
    client = browse(f'[[copy]]\nname = "drive"\nurl = "file://{tmp_path}/nowhere"\n')
    page = send(client, "try", {"kind": "copy", "which": "drive"})
    assert "Can it be reached?" in page.text
    assert "to do" in page.text


@pytest.mark.parametrize("path", ["preview", "write", "try"])
def test_a_form_without_our_token_does_nothing(pages, file, path):
    before = file.read_bytes()
    assert pages.post(f"/settings/{path}", data={"token": "x"} | REMOTE).status_code == 403
    assert file.read_bytes() == before


def test_who_may(make_pages, file):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    client = make_pages(WebOptions(tokens=frozenset({TOKEN})), ELSEWHERE)
    for path in ("", "/entry?kind=remote"):
        assert client.get(f"/settings{path}").status_code == 401
    for path in ("preview", "write", "try"):
        assert client.post(f"/settings/{path}", data=REMOTE).status_code == 401
    assert Right.SETTINGS not in RIGHTS[CallerKind.TOKEN] | RIGHTS[CallerKind.CERTIFICATE]
    assert client.get("/settings", headers=bearer).status_code == 403
    assert 'href="/settings"' not in client.get("/studies", headers=bearer).text


def test_an_empty_clinic_among_several_stays(browse, file):
    client = browse('[[remote]]\nname = "ct"\nae_title = "CT"\nhost = "h"\nsites = ["north", ""]\n')
    assert "north, &#34;&#34;" in client.get("/settings").text
    form = html.unescape(client.get("/settings/entry?kind=remote&name=ct").text)
    assert 'autocomplete="off">north\n""</textarea>' in form
    page = send(client, "preview", REMOTE | {"which": "ct", "host": "h", "sites": 'north\n""\nsouth'})
    assert [line for line in lines_of(page) if line[0] == "added"] == [("added", 'sites = ["north", "", "south"]')]
