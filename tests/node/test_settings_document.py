"""Changes in the text of a settings file: comments and order stay, and nothing else changes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.errors import InvalidSettings
from backup_scp.node.settings.document import changed
from backup_scp.node.settings.hiding import HIDDEN, hidden, shown_url
from backup_scp.ports import SettingsChange, SettingsKind

CONF = Path(__file__).parents[2] / "conf" / "backup-scp.toml"
REMOTE, COPY = SettingsKind.REMOTE, SettingsKind.COPY
NEW = {"name": "new", "ae_title": "NEW", "host": "h"}

TEXT = """# first

[node]
ae_title = "A"  # ours

# room 1
[[remote]]
name = "one"   # said so
ae_title = 'ONE'
port = 0x68
#site = "old"

# room 2, by the stairs
[[remote]]
name = "two"
ae_title = "TWO"
host = "h"
# about the copies
[[copy]]
name = "drive"
url = "file:///media/x"
encrypt = [
  "age1a",  # in the safe
  "age1b",
]
"""


def test_a_new_one_comes_below_the_last_of_its_list():
    after = changed(TEXT, SettingsChange(REMOTE, "", NEW))
    assert after == TEXT.replace(
        'host = "h"\n', 'host = "h"\n\n[[remote]]\nname = "new"\nae_title = "NEW"\nhost = "h"\n\n'
    )


def test_the_first_one_comes_at_the_end_even_without_a_last_line_break():
    assert changed("# x", SettingsChange(COPY, "", {"name": "a"})) == '# x\n\n[[copy]]\nname = "a"\n'
    assert changed("", SettingsChange(COPY, "", {"name": "a"})) == '[[copy]]\nname = "a"\n'


def test_values_change_where_they_stand():
    after = changed(TEXT, SettingsChange(REMOTE, "one", {"port": 105, "host": "h1", "name": "uno"}))
    assert after == TEXT.replace('"one"', '"uno"').replace("port = 0x68\n", 'port = 105\nhost = "h1"\n')


def test_a_list_over_several_lines():
    after = changed(TEXT, SettingsChange(COPY, "drive", {"encrypt": ("age1c",), "hours": "20:00-06:00"}))
    assert after == TEXT[: TEXT.index("encrypt")] + 'encrypt = ["age1c"]\nhours = "20:00-06:00"\n'


@pytest.mark.parametrize(
    ("name", "kind", "gone"),
    [
        ("one", REMOTE, '[[remote]]\nname = "one"   # said so\nae_title = \'ONE\'\nport = 0x68\n#site = "old"\n\n'),
        ("two", REMOTE, '[[remote]]\nname = "two"\nae_title = "TWO"\nhost = "h"\n'),
        ("drive", COPY, TEXT[TEXT.index("[[copy]]") :]),
    ],
)
def test_one_is_removed_and_comments_of_others_stay(name, kind, gone):
    assert changed(TEXT, SettingsChange(kind, name, None)) == TEXT.replace(gone, "")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_stay(mark, ending):
    text = mark + TEXT.replace("\n", ending)
    after = changed(text, SettingsChange(REMOTE, "", NEW))
    assert after == mark + changed(TEXT, SettingsChange(REMOTE, "", NEW)).replace("\n", ending)


@pytest.mark.parametrize(
    "text",
    [
        'remote = [{name = "one", host = "x"}]\n',
        '[["remote"]]\nname = "one"\n',
        'remote = "one"\n',
        "[plan]\nclinic = '''\n[[remote]]\nname = \"zero\"\n'''\n[[remote]]\nname = \"one\"\n",
        '[node]\nremote = 1\n[remote]\nname = "one"\n',
        "no toml",
    ],
)
def test_an_unusual_file_is_refused_and_never_damaged(text):
    for change in (
        SettingsChange(REMOTE, "one", None),
        SettingsChange(REMOTE, "one", {"host": "y"}),
        SettingsChange(REMOTE, "", NEW),
    ):
        try:
            after = changed(text, change)
        except InvalidSettings:
            continue
        before, now = tomllib.loads(text), tomllib.loads(after)
        assert {key: value for key, value in now.items() if key != "remote"} == {
            key: value for key, value in before.items() if key != "remote"
        }
        assert len(now.get("remote", [])) == len(before["remote"]) + (not change.name) - (change.values is None)


def test_an_entry_that_is_gone():
    with pytest.raises(InvalidSettings, match=r"no \[\[remote\]\] with the name three"):
        changed(TEXT, SettingsChange(REMOTE, "three", None))


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4, unique_by=lambda pair: pair[0]), WORDS, st.data())
def test_whatever_is_typed_is_what_is_read(entries, site, data):
    """Also in the documented file, whose comments all stay."""
    text = CONF.read_text("utf-8")
    for name, host in entries:
        text = changed(text, SettingsChange(REMOTE, "", {"name": f"n{name}", "host": host}))
    name = f"n{data.draw(st.sampled_from(entries))[0]}"
    text = changed(text, SettingsChange(REMOTE, name, {"site": site, "port": 4}))
    found = next(entry for entry in tomllib.loads(text)["remote"] if entry["name"] == name)
    assert (found["site"], found["port"]) == (site, 4)
    for each, _ in entries:
        text = changed(text, SettingsChange(REMOTE, f"n{each}", None))
    assert text.rstrip("\n") == CONF.read_text("utf-8").rstrip("\n")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("file:///media/x", "file:///media/x"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("dicom://PACS@192.0.2.1:104", "dicom://PACS@192.0.2.1:104"),
        ("rclone:drive:x/y", "rclone:drive:x/y"),
        ("rclone:drive,token=secret:x", f"rclone:drive,{HIDDEN}:x"),
        ("dicomweb+https://pacs.example", "dicomweb+https://pacs.example"),
        ("dicomweb+https://us:secret@pacs.example/x", f"dicomweb+https://{HIDDEN}@pacs.example/x"),
        ("dicomweb+https://pacs.example/x?key=secret", f"dicomweb+https://pacs.example/x?{HIDDEN}"),
    ],
)
def test_urls_are_shown_without_secrets(url, shown):
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('+access_key = "AKIA"', f"+access_key = {HIDDEN}"),
        ('-# access_key="AKIA"  # old', f"-# access_key={HIDDEN}"),
        (' webhook = "https://chat.example/abc"', f" webhook = {HIDDEN}"),
        ('+heartbeat = "https://hc.example/abc"', f"+heartbeat = {HIDDEN}"),
        ('+secret_key_file = "s3-key"', '+secret_key_file = "s3-key"'),
        (' #url = "postgresql://us:pw@db/x"', f' #url = "postgresql://{HIDDEN}@db/x"'),
        ('+url = "dicom://PACS@192.0.2.1:104"', '+url = "dicom://PACS@192.0.2.1:104"'),
        ('+key = "KEYOFCOPY" # KEYOFCOPY', f'+key = "{HIDDEN}" # {HIDDEN}'),
    ],
)
def test_lines_are_shown_without_secrets(line, shown):
    assert hidden([line], {"copy": [{"access_key": "KEYOFCOPY"}]}) == [shown]
