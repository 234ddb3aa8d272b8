"""The running node uses other settings: each of them, while consoles send, with no image refused and none lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trustme
from pydicom.dataset import Dataset

from backup_scp.node import reloading
from backup_scp.node.settings import CopySettings, RemoteSettings, Sections, Settings
from tests.dimse import wire
from tests.processes import connects, free_port, wait_until
from tests.samples import ct_series, dx, encode
from tests.system import raw_sender
from tests.system.contents import assert_index_equals_files, visible
from tests.system.node import Node, Remote
from tests.system.raw_sender import contexts_of

pytestmark = pytest.mark.system

_WITH_RESTART = {"node.home", "node.workers", "archive.url", "archive.reserve_mb", "index.url"}
_NEEDS_A_FILE = {
    "tls.certificate", "tls.key", "tls.ca", "web.certificate", "web.key", "web.ca", "web.token_file", "alerts.ca",
    "alerts.smtp_password_file", "audit.ca", "audit.certificate", "audit.key",
    "log.file", "node.plain", "web.openid_connect",
}  # fmt: skip
# A value for each other setting; those that depend on each other come in this order.
_OTHERS: dict[str, Any] = {
    "node.check_called_ae_title": False, "node.ae_title": "OTHER", "node.host": "0.0.0.0", "node.port": 0,
    "node.strangers": "refuse", "node.proxies": ["10.0.0.5"],
    "node.trust_this_machine": False, "node.maximum_associations": 50, "node.reserved_associations": 5,
    "node.maximum_associations_per_address": 15, "node.strict_hierarchy": True, "node.get_without_roles": True,
    "node.maximum_pdu_length": 65536, "node.association_timeout_s": 29, "node.idle_timeout_s": 599,
    "node.network_timeout_s": 59, "node.connect_timeout_s": 9, "tls.port": 2763, "web.enabled": False,
    "web.host": "::1",
    "web.port": 8043, "web.cors": ["https://viewer.example"], "web.public_url": "https://pacs.example",
    "web.proxies": ["10.0.0.0/24"], "web.session_minutes": 59, "web.session_hours": 11, "web.second_factor": "required",
    "commitment.wait_s": 599, "commitment.retry_s": 59, "commitment.retry_days": 6, "commitment.answer_s": 59,
    "commitment.copies": 1, "commitment.off_site_copies": 0, "verify.full_pass_days": 29, "alerts.changed_studies": 29,
    "alerts.changed_studies_days": 6, "alerts.lost_images": 9, "alerts.smtp": "127.0.0.1:1",
    "alerts.email": ["it@clinic.example"], "alerts.email_from": "node@clinic.example", "alerts.smtp_security": "none",
    "alerts.smtp_user": "node", "alerts.webhook": "http://127.0.0.1:1/hook", "alerts.webhook_form": "slack",
    "alerts.heartbeat": "http://127.0.0.1:1/ping", "alerts.heartbeat_minutes": 4, "drill.every_days": 29,
    "audit.syslog": "tls://127.0.0.1:1",
    "drill.sample": 49, "drill.full_every_days": 364, "plan.clinic": "North", "plan.contacts": ["IT"],
    "plan.key_holder": "Dr. Doe", "plan.spare_machine": "PC", "log.level": "DEBUG", "log.json": True,
}  # fmt: skip
_UNCHANGED = {
    "commitment.off_site_copies",
    "node.port",
    "node.strangers",
    "web.enabled",
}  # by the environment, or by there being no such copy
_OF_A_REMOTE: dict[str, Any] = {
    "ae_title": "VIEWER2", "host": "127.0.0.2", "port": 105, "site": "north", "sites": ["north"], "query": False,
    "brings_sites": ["south"], "services": ["store"], "networks": ["10.0.0.0/8"],
    "destination": False, "check_address": False, "commitment_port": 106,
}  # fmt: skip
_OF_USERS = {"user_identity", "users"}  # together
_OF_A_COPY: dict[str, Any] = {
    "off_site": "yes", "mb_per_s": 5, "gb_per_month": 50, "hours": "20:00-06:30", "compare_days": 80, "away_days": 9,
}  # fmt: skip
_OF_OTHER_COPIES = {
    "url", "encrypt", "lock_days", "endpoint", "region", "access_key", "secret_key_file", "checksum", "ca", "user",
    "password_file", "token_file", "rclone_config", "brings_sites",
}  # fmt: skip


def test_each_setting_is_in_a_table_here():
    """A new one needs a row: how it changes in a running node."""
    sections = (field for field in msgspec.structs.fields(Sections) if field.name not in {"remote", "copy"})
    known = {f"{one.name}.{key.name}" for one in sections for key in msgspec.structs.fields(one.default)}
    assert known == _WITH_RESTART | _NEEDS_A_FILE | _OTHERS.keys()
    assert {key.name for key in msgspec.structs.fields(RemoteSettings)} - _OF_USERS - {
        "name",
        "tls",
        "certificate",
    } == _OF_A_REMOTE.keys()
    assert {key.name for key in msgspec.structs.fields(CopySettings)} - {"name"} == _OF_A_COPY.keys() | _OF_OTHER_COPIES


def reload(node: Node) -> reloading.Reloaded:
    node.write_settings()
    return reloading.ask(Settings(home=node.home), 60)


def change(node: Node, place: str, value: object) -> reloading.Reloaded:
    section, key = place.split(".")
    node.settings.setdefault(section, {})[key] = value
    return reload(node)


class _Console:
    """Sends without pause: over one Association that stays, and over one for each image."""

    def __init__(self, node: Node) -> None:
        self._acceptor = Remote("node", node.ae_title, node.port)
        self._ended = threading.Event()
        self.statuses: list[int] = []
        self.failed: list[BaseException] = []
        self.sent = 0

    def stays(self) -> None:
        images = [encode(dx(study=f"8{number}", number=number)) for number in range(40)]
        with raw_sender.Association(self._acceptor, contexts_of(*images)) as association:
            while not self._ended.is_set():
                self._note(association.store(images[self.sent % len(images)]).status)

    def comes_again(self) -> None:
        images = [encode(each) for each in ct_series(10, study="9")]
        while not self._ended.is_set():
            self._note(raw_sender.send(self._acceptor, [images[self.sent % len(images)]])[0].status)

    def has_sent_since(self, before: int) -> bool:
        return self.sent > before or bool(self.failed)

    def _note(self, status: int) -> None:
        self.statuses.append(status)
        self.sent += 1

    def _run(self, sends: Any) -> None:
        try:
            sends()
        except BaseException as error:  # noqa: BLE001 - the test tells of it
            self.failed.append(error)

    @contextmanager
    def sending(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._run, args=[sends]) for sends in (self.stays, self.comes_again)]
        for thread in threads:
            thread.start()
        wait_until(lambda: self.sent > 5 or self.failed)
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(60)
        assert not self.failed
        assert set(self.statuses) == {0}


def test_every_setting_changes_while_a_console_sends(start_node, tmp_path):
    node = start_node(copies=[{"name": "drive", "url": (tmp_path / "drive").as_uri()}])
    node.remotes = [Remote("viewer", "VIEWER", 104)]
    node.settings["node"] = {"check_called_ae_title": False}  # the console goes on with the title that it has
    reload(node)
    console = _Console(node)

    with console.sending():
        for place, value in _OTHERS.items():
            if place in {"node.check_called_ae_title", *_UNCHANGED}:
                continue
            outcome = change(node, place, value)
            assert outcome.applied, outcome.sentence
            assert outcome.changed == [f"[{place.replace('.', '] ')}"], place
            before = console.sent
            wait_until(partial(console.has_sent_since, before), what="a further image")
        for key, value in _OF_A_COPY.items():
            node.copies = [node.copies[0] | {key: value}]
            assert reload(node).changed == ["[[copy]] drive"], key
        for key, value in _OF_A_REMOTE.items():
            node.remotes = [SimpleNamespace(**(vars(Remote("viewer", "VIEWER", 104)) | {key: value}))]
            assert reload(node).changed == ["[[remote]] viewer"], key
        users = {"user_identity": "name", "users": ["reader"]}
        node.remotes = [SimpleNamespace(**vars(Remote("viewer", "VIEWER", 104)), **users)]
        assert reload(node).changed == ["[[remote]] viewer"]
        node.remotes, node.copies = [], []
        node.settings["commitment"] = {}
        keys = ("wait_s", "retry_s", "retry_days", "answer_s", "copies")
        commitment = [f"[commitment] {key}" for key in keys]
        assert reload(node).changed == [*commitment, "[[remote]] viewer", "[[copy]] drive"]

    assert '"level": "DEBUG"' in node.output or '"level":"DEBUG"' in node.output
    assert_index_equals_files(node)
    assert visible(node)


def finds(node: Node) -> int:
    """Return the status of a C-FIND of VIEWER."""
    acceptor = Remote("node", node.ae_title, node.port)
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.PatientID, asked.StudyInstanceUID = "STUDY", "NOBODY", ""
    with raw_sender.Association(acceptor, [(wire.STUDY_ROOT_FIND, (wire.IMPLICIT,))], calling="VIEWER") as association:
        return association.find(wire.STUDY_ROOT_FIND, wire.encoded(asked, wire.IMPLICIT))[-1].status


def test_what_is_new_counts_for_new_associations(start_node):
    node = start_node(settings={"node": {"trust_this_machine": False}})
    assert finds(node) == 0x0124, "a stranger"

    node.remotes = [Remote("viewer", "VIEWER", 104)]
    assert reload(node).applied
    assert finds(node) == 0

    node.settings["node"]["strangers"] = "refuse"
    assert reload(node).changed == ["[node] strangers"]
    with pytest.raises(raw_sender.AssociationRefusedError):
        raw_sender.Association(node)
    assert finds(node) == 0
    node.settings["node"]["strangers"] = "store"
    assert reload(node).applied

    old, node.port = node.port, free_port()
    assert reload(node).changed == ["[node] port"]
    assert node.echo()
    assert not connects(old)

    node.ae_title = "RENAMED"
    assert reload(node).changed == ["[node] ae_title"]
    assert node.echo()
    with pytest.raises(raw_sender.AssociationRefusedError):
        raw_sender.Association(Remote("node", "BACKUP_SCP", node.port))


def test_tls_comes_and_goes(node, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("node.clinic.example")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    issued.private_key_pem.write_to_path(tmp_path / "node.key")
    port = free_port()
    node.settings["tls"] = {"certificate": str(tmp_path / "node.pem"), "key": str(tmp_path / "node.key"), "port": port}

    assert set(reload(node).changed) == {"[tls] certificate", "[tls] key", "[tls] port"}
    assert connects(port)
    assert f"TLS: port {port}" in node.cli("status", exit_code=None).stdout

    del node.settings["tls"]
    assert reload(node).applied
    assert not connects(port)


def test_a_copy_that_is_added_is_filled(node, tmp_path):
    raw_sender.send(node, [encode(dx())])
    node.copies = [{"name": "drive", "url": (tmp_path / "drive").as_uri()}]
    assert reload(node).applied
    (tmp_path / "drive").mkdir()
    node.cli("copies", "init", "drive", "--same-disk")

    wait_until(lambda: "Copy drive: 1 images written, read back and compared" in node.output, 90)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("node", {"prot": 1}, "there is no setting prot"),
        ("node", {"maximum_pdu_length": 1}, "[node] maximum_pdu_length: expected a whole number, at least 4096"),
        ("node", {"workers": 2}, "[node] workers"),
        ("archive", {"reserve_mb": 5}, "[archive] reserve_mb"),
        ("index", {"url": "postgresql://127.0.0.1/x"}, "[index] url"),
        ("tls", {"certificate": "missing.pem", "key": "missing.key"}, "cannot be used"),
        (
            "alerts",
            {"email": ["a@b"], "smtp": "127.0.0.1:25", "smtp_password_file": "missing"},
            "missing cannot be read",
        ),
    ],
)
def test_what_is_wrong_changes_nothing(node, section, values, said):
    node.settings[section] = values
    node.settings["commitment"] = {"wait_s": 5}  # a change beside it that is right

    outcome = reload(node)

    assert not outcome.applied
    assert said in outcome.sentence
    assert "keeps the settings that it has" in outcome.sentence
    assert outcome.changed == []
    assert node.echo()
    del node.settings[section]
    assert reload(node).changed == ["[commitment] wait_s"]


def test_a_port_that_is_taken_changes_nothing(node, start_node):
    other = start_node()
    old, node.port = node.port, other.port
    node.settings["commitment"] = {"wait_s": 5}

    outcome = reload(node)

    assert f"Port {other.port} is already in use" in outcome.sentence
    node.port = old
    assert node.echo()
    assert reload(node).changed == ["[commitment] wait_s"]


def test_the_command_says_file_and_line(node):
    node.cli("reload")
    node.config.write_text(node.config.read_text() + '\n[commitment]\nwait_s = "long"\n')
    number = len(node.config.read_text().splitlines())

    done = node.cli("reload", exit_code=1)

    assert f"{node.config}, line {number}: [commitment] wait_s: expected a number" in done.stderr
    assert node.echo()


def test_a_hundred_hangups_are_no_hundred_starts(node):
    node.settings["commitment"] = {"wait_s": 7}
    node.write_settings()
    for _ in range(100):
        os.kill(node.pid, signal.SIGHUP)

    wait_until(lambda: "1 setting changed" in node.output)
    assert node.echo()
    assert node.output.count("Settings: ") < 50


def test_with_several_processes_the_command_says_that_it_needs_a_restart(start_node):
    node = start_node(settings={"node": {"workers": 2}})
    assert "With workers = 2" in node.cli("reload", exit_code=1).stderr
    os.kill(node.pid, signal.SIGHUP)
    assert node.echo()


def test_the_page_follows(start_node):
    port, other = free_port(), free_port()
    node = start_node(env={"BACKUP_SCP_WEB__ENABLED": "true"}, settings={"web": {"port": port}})
    wait_until(lambda: connects(port))
    node.settings["web"]["port"] = other

    assert reload(node).changed == ["[web] port"]

    wait_until(lambda: connects(other))
    wait_until(lambda: not connects(port))


def test_without_a_node_the_command_says_so(make_node):
    node = make_node()
    assert "No node runs here" in node.cli("reload", exit_code=1).stderr
