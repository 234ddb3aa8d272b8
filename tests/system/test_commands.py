"""The commands as a technician, a script and a service manager use them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian

from backup_scp.node.start_report import Ready
from tests.processes import LOOPBACK, connects, free_port, wait_until
from tests.samples import Sample, ct_series, data_set_bytes, dx, encode, make_study, pydicom_files, uid
from tests.system import raw_sender
from tests.system.contents import damage, stored_file, under_way, visible
from tests.system.node import TRACEBACK, Node, Remote, assert_one_sentence
from tests.terminal import CTRL_C, terminal

CT = str(CTImageStorage)
COMMANDS = ["serve", "status", "check", "echo", "find", "import", "restore", "verify", "rebuild", "db", "db upgrade"]


def run(node: Node, *arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `backup-scp ARGUMENTS` in the node's folder, with nothing added."""
    if not node.config.exists():
        node.write_settings()
    return subprocess.run(
        [sys.executable, "-m", "backup_scp", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=node.env | (env or {}),
        cwd=node.config.parent,
        timeout=110,
    )


# --------------------------------------------------------------------------------------------------------------- serve


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_where_it_is_and_stops_cleanly(node, number):
    wait_until(lambda: node.output.count("\n") >= 4, what="the four lines of the start")
    ready, where, kept, stop = node.output.splitlines()[:4]
    assert where.startswith("Consoles send to: AE title BACKUP_SCP, ")
    assert f"AE title BACKUP_SCP, port {node.port}" in ready
    assert str(node.home) in kept
    assert "Ctrl-C" in stop

    node.process._ended_by_test = True
    node.process.signal(number)

    assert node.process.wait() == 0
    assert TRACEBACK not in node.output


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_tells_a_program_in_one_object(make_node, workers):
    node = make_node(settings={"node": {"workers": workers}, "log": {"level": "ERROR"}})
    node.write_settings()
    node.process.argv.append("--json")
    node.process.launch(node.echo)
    wait_until(lambda: node.output.endswith("\n"), what="the whole line")
    ready = msgspec.json.decode(node.output, type=Ready, strict=True)
    assert (ready.record.process, ready.record.port, ready.record.workers) == (node.pid, node.port, workers)
    assert ready.archive == str(node.home / "archive")
    assert (ready.addresses, ready.troubles) == ([], [])
    node.stop()
    assert node.output.count("\n") == 1


@pytest.mark.parametrize("columns", [40, 200])
def test_serve_at_a_keyboard(make_node, columns):
    node = make_node()
    node.write_settings()
    argv = (sys.executable, "-m", "backup_scp", "serve", "--config", node.config)
    with terminal(*argv, columns=columns, env=node.env, cwd=node.config.parent) as shown:
        shown.wait_for("Stop it with Ctrl-C")
        shown.press(CTRL_C)
        ended = shown.end()

    assert ended.code == 0, ended.text
    assert TRACEBACK not in ended.text
    assert ended.lines[-2] == "Stopped"


def test_serve_lets_an_image_under_way_arrive(node):
    """SIGTERM in mid-transfer: the sender gets its answer, then the node ends."""
    sample = encode(dx())
    association = raw_sender.Association(node, [(sample.sop_class_uid, [sample.transfer_syntax_uid])])
    with association.socket:
        association.begin_store(sample)
        association.send_data(sample, sample.data_set[:1000])
        wait_until(lambda: under_way(node), what="the node having read that an image comes")
        node.process._ended_by_test = True
        node.process.signal(signal.SIGTERM)
        wait_until(lambda: not connects(node.port), what="the node taking no more connections")
        association.send_data(sample, sample.data_set[1000:], last=True)
        assert association.answer().status == 0

    assert node.process.wait() == 0
    assert [data_set_bytes(path) for path in visible(node)] == [sample.data_set]


def test_serve_on_a_port_in_use(make_node):
    node = make_node()
    with socket.create_server((LOOPBACK, node.port)):
        done = run(node, "serve", "--config", node.config)

    assert_one_sentence(done, str(node.port), "[node]")


def said_at_start(node: Node) -> str:
    """Start `serve` on settings that cannot work as they are; it may refuse, or serve what it can: return its words."""
    node.write_settings()
    node.process.launch(lambda: node.echo() or not node.process.running)
    return node.output


def test_serve_on_an_archive_that_cannot_be_written_says_so(make_node, tmp_path):
    """A drive that is missing when the node starts must not be found out by the first image."""
    (tmp_path / "file").write_text("not a folder")
    node = make_node(settings={"archive": {"url": str(tmp_path / "file")}})

    assert "cannot be" in said_at_start(node)


# ------------------------------------------------------------------------------------------------- options and settings


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(make_node, command):
    done = run(make_node(), *command.split(), "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: backup-scp {command}".rstrip())
    assert done.stderr == ""


def test_no_command_shows_the_help(make_node):
    done = run(make_node())

    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


def test_config_before_after_and_in_the_environment(make_node):
    node = make_node(ae_title="ELSEWHERE")
    node.write_settings()
    (node.home / "archive").mkdir(parents=True)

    before = run(node, "--config", node.config, "status", "--json")
    after = run(node, "status", "--json", "--config", node.config)
    environment = run(node, "status", "--json", env={"BACKUP_SCP_CONFIG": str(node.config)})
    without = run(node, "status", "--json")

    titles = [json.loads(done.stdout)["ae_title"] for done in (before, after, environment, without)]
    assert titles == ["ELSEWHERE", "ELSEWHERE", "ELSEWHERE", "BACKUP_SCP"]


def test_the_environment_wins_over_the_file(make_node):
    node = make_node(ae_title="OF_THE_FILE", remotes=[Remote("old", "OLD", 104)])
    (node.home / "archive").mkdir(parents=True)
    remote = [{"name": "new", "ae_title": "NEW", "host": LOOPBACK, "port": free_port()}]
    env = {"BACKUP_SCP_NODE__AE_TITLE": "OF_THE_ENV", "BACKUP_SCP_REMOTE": json.dumps(remote)}

    status = run(node, "status", "--json", "--config", node.config, env=env)
    echo = run(node, "echo", "old", "--config", node.config, env=env)

    assert json.loads(status.stdout)["ae_title"] == "OF_THE_ENV"
    assert_one_sentence(echo, "old", "new")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[node]\nprot = 104\n", ["prot", "[node]", "conf/backup-scp.toml"]),
        ("[nodes]\nport = 104\n", ["nodes"]),
        ('[node]\nport = "104"\n', ["[node] port", "whole number"]),
        ("[node]\nport = 99999\n", ["[node] port", "65535"]),
        ('[node]\nae_title = "SEVENTEEN_LETTERS"\n', ["ae_title", "16"]),
        ("[node\n", ["not TOML"]),
        ('[[remote]]\nname = "a"\nae_title = "A"\n', ["host", "missing"]),
    ],
    ids=["key", "section", "type", "range", "AE title", "TOML", "missing"],
)
def test_a_wrong_settings_file_is_refused_in_one_sentence(make_node, text, words):
    node = make_node()
    node.config.write_text(text)

    assert_one_sentence(run(node, "status", "--config", node.config), str(node.config), *words)


def test_a_settings_file_that_is_not_there(make_node):
    assert_one_sentence(run(make_node(), "status", "--config", "nowhere.toml"), "nowhere.toml", "--config")


def test_a_wrong_variable_is_refused_in_one_sentence(make_node):
    node = make_node()

    assert_one_sentence(run(node, "status", env={"BACKUP_SCP_NODE__PROT": "1"}), "BACKUP_SCP_NODE__PROT", "port")
    assert_one_sentence(run(node, "status", env={"BACKUP_SCP_NODE__PORT": "one"}), "BACKUP_SCP_NODE__PORT")


def test_a_wrong_command_line_ends_with_2(make_node):
    node = make_node()

    for wrong in (
        ["no-such-command"],
        ["restore"],
        ["restore", "--to", ".", "--since", "yesterday"],
        ["import", "not-there"],
    ):
        done = run(node, *wrong)
        assert (done.returncode, done.stdout) == (2, ""), wrong
        assert TRACEBACK not in done.stderr


# -------------------------------------------------------------------------------------------------- status, check, echo


def test_status_beside_the_node_and_without_it(node):
    empty = node.json("status")
    node.send([encode(dx()), *map(encode, ct_series(3))])

    beside, said = node.json("status"), node.cli("status").stdout
    node.stop()
    without, alone = node.json("status", exit_code=1), node.cli("status", exit_code=1).stdout

    assert (empty["holdings"]["versions"], empty["needs_a_person"]) == (0, False)
    held = {key: beside["holdings"][key] for key in ("patients", "studies", "series", "instances", "versions")}
    assert held == {"patients": 1, "studies": 1, "series": 2, "instances": 4, "versions": 4}
    assert beside["holdings"] == without["holdings"]
    assert said.startswith("Running since ")
    assert f"AE title BACKUP_SCP, 127.0.0.1 port {node.port}" in said.splitlines()[0]
    assert "1 patient, 1 study, 2 series, 4 images, " in said
    assert alone.startswith("NOT RUNNING: consoles cannot send. Start it with  backup-scp serve\n")
    assert (beside["node"]["running"], without["node"]["running"]) == (True, False)
    assert "PID1" not in said
    assert "Family" not in said


def test_status_shows_what_is_odd_without_naming_the_patient(node):
    odd = Sample("noise", CT, uid("noise"), ImplicitVRLittleEndian, b"\xff" * 300)
    node.send([odd])

    said = node.cli("status").stdout

    assert f"{odd.sop_instance_uid} from RAW_SENDER" in said
    assert "unparsed" in said
    (remark,) = node.json("status", exit_code=None)["remarks"]
    assert remark["sop_instance_uid"] == odd.sop_instance_uid
    assert remark["flags"] == ["unparsed"]


def test_check_says_what_is_well_and_what_is_not(start_node, storescp):
    down = Remote("down", "DOWN", free_port())
    nowhere = Remote("nowhere", "NOWHERE", 104, host="no-such-host.invalid")
    node = start_node(remotes=[storescp.remote, down, nowhere])

    said = node.cli("check", exit_code=1).stdout
    findings = {finding["what"]: finding for finding in node.json("check", exit_code=1)}

    assert [name for name, finding in findings.items() if finding["severity"] == "act"] == [
        "remote down",
        "remote nowhere",
    ]
    assert {"settings", "archive", "free disk", "index", "remote sink"} <= findings.keys()
    assert "answers C-ECHO" in findings["remote sink"]["sentence"]
    assert f"port {down.port}" in findings["remote down"]["sentence"]
    assert "no-such-host.invalid" in findings["remote nowhere"]["sentence"]
    assert "FAIL  remote down" in said
    assert "ok    remote sink" in said


def test_check_of_a_good_node_is_0_and_leaves_nothing_behind(node):
    assert {finding["severity"] for finding in node.json("check")} == {"ok"}
    assert "FAIL" not in node.cli("check").stdout
    assert visible(node) == []


def test_echo(start_node, storescp, start_storescp):
    refusing = start_storescp(ae_title="REFUSING", options=("--refuse",))
    node = start_node(remotes=[storescp.remote, refusing.remote, Remote("down", "DOWN", free_port())])

    assert "SINK at 127.0.0.1" in node.cli("echo", "sink").stdout
    assert node.json("echo", "SINK")["port"] == storescp.port
    assert "BACKUP_SCP" in node.cli("echo", f"BACKUP_SCP@127.0.0.1:{node.port}").stdout
    for ae, words in {
        "down": ["DOWN"],
        "refusing": ["REFUSING"],
        "nobody": ["nobody", "[[remote]]"],
        f"WRONG@127.0.0.1:{node.port}": ["WRONG"],
    }.items():
        assert_one_sentence(node.cli("echo", ae, exit_code=1), *words)
    failed = node.cli("echo", "nobody", "--json", exit_code=1)
    assert "nobody" in json.loads(failed.stdout)["error"]
    assert "nobody" in failed.stderr


# ---------------------------------------------------------------------------------------------------------------- find


def test_find(node):
    second = {"PatientID": "PID2", "PatientName": "Second^Given", "StudyDate": "20240305"}
    node.send([encode(dx(study="1")), *map(encode, ct_series(2, study="2", **second))])

    def found(*options: str, column: str = "StudyInstanceUID") -> list[str]:
        lines = node.cli("find", "--json", *options).stdout.splitlines()
        return sorted(json.loads(line)[column] for line in lines)

    assert found() == sorted([uid("1"), uid("2")])
    assert found("--patient-id", "PID?") == sorted([uid("1"), uid("2")])
    assert found("--name", "familypid1*") == [uid("1")]
    assert found("--study-date", "20240201-") == [uid("2")]
    assert found("--modality", "CT") == [uid("2")]
    assert found("--modality", "CT", "--level", "series", column="NumberOfSeriesRelatedInstances") == ["2"]
    assert found("--study", uid("2"), "--level", "image", column="InstanceNumber") == ["1", "2"]
    assert found("--level", "patient", column="PatientID") == ["PID1", "PID2"]
    assert found("--accession", "ACC1", column="AccessionNumber") == ["ACC1"]
    assert len(found("--limit", "1", "--level", "image", column="SOPInstanceUID")) == 1

    table = node.cli("find", "--limit", "1").stdout
    assert "Patient ID" in table.splitlines()[0]
    assert "There are more" in table
    assert "No stored image matches" in node.cli("find", "--patient-id", "nobody").stdout
    assert "--study-date" in node.cli("find", "--study-date", "01.02.2024", exit_code=2).stderr


# -------------------------------------------------------------------------------------------------------------- import


@pytest.fixture
def old_drive(tmp_path):
    """Return a folder as drives are: DICOM under any name, and much else."""
    drive = tmp_path / "drive"
    make_study(drive / "studies", patients=2, instances=2)
    deep = drive.joinpath(*(f"level {depth}" for depth in range(40)))
    encode(dx(study="deep")).write(deep / "NO EXTENSION")
    (drive / "bare.img").write_bytes(encode(dx(study="bare"), ImplicitVRLittleEndian).data_set)
    encode(dx(study="same")).write(drive / "one.dcm")
    encode(dx(study="same")).write(drive / "two.dcm")
    shutil.copy(next(path for path in pydicom_files() if path.name == "DICOMDIR"), drive / "DICOMDIR")
    (drive / "read me.txt").write_text("DICM is not at byte 128 here. " * 20)
    (drive / "empty.dcm").touch()
    (drive / "cut.dcm").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0")
    (drive / "link.dcm").symlink_to(drive / "nowhere")
    (drive / os.fsdecode(b"M\xfcller.dcm")).write_bytes(encode(dx(study="name of another time")).file_bytes())
    os.mkfifo(drive / "pipe.dcm")
    return drive


def test_import_takes_what_is_dicom_and_doubles_nothing(make_node, old_drive, tmp_path):
    node = make_node()

    first = node.json("import", old_drive)
    second = node.json("import", old_drive)

    assert (first["new"], first["held"], first["version"], first["clash"]) == (8, 1, 0, 0)
    skipped = {Path(trouble["path"]).name for trouble in first["skipped"]}
    assert skipped == {"DICOMDIR", "read me.txt", "empty.dcm", "cut.dcm", "link.dcm", "pipe.dcm"}
    assert (first["failed"], first["stopped"]) == ([], "")
    assert (second["new"], second["held"]) == (0, 9)
    assert len(visible(node)) == 8
    assert node.json("status", exit_code=1)["holdings"]["versions"] == 8
    sources = {data_set_bytes(path) for path in old_drive.rglob("*") if path.is_file() and path.name not in skipped}
    assert {data_set_bytes(path) for path in node.restored(tmp_path / "restored")} == sources


def test_import_says_what_it_did(make_node, old_drive):
    node = make_node()

    said = node.cli("import", old_drive).stdout

    assert "8 new images, 1 already stored" in said
    assert "Skipped: 6" in said
    assert str(old_drive / "DICOMDIR") not in said
    assert "DICOMDIR" in node.cli("import", "-v", old_drive).stdout


def test_import_beside_the_running_node(node, tmp_path):
    files = make_study(tmp_path / "study")

    assert node.json("import", *files)["new"] == 3
    assert len(node.json("find", "--level", "study")["StudyInstanceUID"]) > 0


def test_import_names_what_it_could_not_read(make_node, tmp_path):
    """A file, or a folder, that cannot be read may hold an image: that is a failure, not a file of another kind."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root reads everything; setpriv (util-linux) is needed to take that right away")
    node = make_node()
    node.write_settings()
    drive = tmp_path / "drive"
    fine, unreadable = make_study(drive, instances=2)
    hidden = encode(dx(study="hidden")).write(drive / "hidden" / "image.dcm")
    unreadable.chmod(0)
    hidden.parent.chmod(0)
    humbly = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []

    done = subprocess.run(
        [*humbly, sys.executable, "-m", "backup_scp", "import", str(drive), "--json", "--config", str(node.config)],
        capture_output=True,
        text=True,
        check=False,
        env=node.env,
        timeout=110,
    )
    hidden.parent.chmod(0o700)

    imported = json.loads(done.stdout)
    assert imported["new"] == 1
    assert {Path(trouble["path"]) for trouble in imported["failed"]} == {unreadable, hidden.parent}
    assert done.returncode == 1
    assert fine.exists()


# -------------------------------------------------------------------------------------------------------------- verify


KINDS = ["flip", "flip in the File Meta", "truncate", "empty", "lengthen", "delete"]


def test_verify_finds_each_damage_and_a_resend_repairs_it(node):
    intact, *samples = (encode(ds) for ds in ct_series(1 + len(KINDS)))
    node.send([intact, *samples])
    assert node.json("verify")["intact"] == 1 + len(KINDS)
    for sample, kind in zip(samples, KINDS, strict=True):
        damage(stored_file(node, sample), kind)

    said = node.cli("verify", exit_code=1)
    found = node.json("verify", exit_code=1)
    status = node.cli("status", exit_code=1)

    assert found["intact"] == 1
    assert {row["sop_instance_uid"] for row in found["missing"]} == {samples[-1].sop_instance_uid}
    assert {row["sop_instance_uid"] for row in found["damaged"]} == {s.sop_instance_uid for s in samples[:-1]}
    for sample in samples:
        assert sample.sop_instance_uid in said.stdout
        assert sample.sop_instance_uid in status.stdout
    assert "send these images again" in said.stdout
    assert not any(word in said.stdout + said.stderr + status.stdout for word in ("PID1", "Family"))

    assert {answer.status for answer in node.send(samples)} == {0}

    assert node.json("verify")["intact"] == 1 + len(KINDS)
    assert node.cli("status").returncode == 0
    assert sorted(map(data_set_bytes, visible(node))) == sorted(s.data_set for s in [intact, *samples])


def test_verify_enters_what_the_index_does_not_know(node, tmp_path):
    """A file put back by hand, as after a power cut, is found and entered on demand."""
    known, unknown = encode(dx(study="1")), encode(dx(study="2"))
    node.send([known, unknown])
    node.stop()
    kept = stored_file(node, unknown)
    kept.rename(tmp_path / "aside")
    for file in node.home.glob("index.sqlite*"):
        file.unlink()
    node.cli("rebuild")
    kept.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "aside").rename(kept)

    found = node.json("verify", exit_code=1)
    repaired = node.json("verify", "--repair")

    assert (found["intact"], len(found["unindexed"]), found["repaired"]) == (1, 1, 0)
    assert (len(repaired["unindexed"]), repaired["repaired"]) == (1, 1)
    assert node.json("verify")["intact"] == 2
    assert "2 images intact" in node.cli("verify").stdout


# -------------------------------------------------------------------------------------------------- rebuild, db upgrade


def test_rebuild_leaves_out_what_is_damaged_and_says_so(node):
    fine, broken = encode(dx(study="1")), encode(dx(study="2"))
    node.send([fine, broken])
    node.stop()
    damage(stored_file(node, broken), "flip in the File Meta")

    said = node.cli("rebuild", exit_code=1).stdout
    done = node.json("rebuild", exit_code=1)

    assert "1 image read" in said
    assert (done["entered"], len(done["left_out"])) == (1, 1)
    assert broken.sop_instance_uid in done["left_out"][0]["reason"] + done["left_out"][0]["location"]
    assert "PID1" not in said


def test_rebuild_does_not_take_an_empty_drive_for_the_truth(node):
    node.send([encode(dx())])
    node.stop()
    archive = node.home / "archive"
    archive.rename(node.home / "unplugged")

    done = node.cli("rebuild", exit_code=1)
    shutil.rmtree(archive, ignore_errors=True)
    (node.home / "unplugged").rename(archive)

    assert_one_sentence(done, "drive")
    assert node.json("status", exit_code=1)["holdings"]["versions"] == 1


def test_db_upgrade_of_the_embedded_index(node):
    assert node.cli("db", "upgrade").stdout == "The index is up to date\n"
    assert node.cli("db", "upgrade").returncode == 0


def test_postgresql_is_upgraded_by_its_owner(make_node, postgres_url):
    """A starting node does not upgrade a shared index: it names the command that does."""
    node = make_node(settings={"index": {"url": postgres_url}})

    assert_one_sentence(run(node, "find", "--config", node.config), "db upgrade")
    assert "db upgrade" in node.cli("status", exit_code=1).stdout
    assert "db upgrade" in said_at_start(node)
    node.kill()
    node.cli("db", "upgrade")
    node.start()
    node.send([encode(dx())])

    assert node.json("status", exit_code=None)["holdings"]["instances"] == 1
    assert node.json("verify")["intact"] == 1
    assert postgres_url.split("@")[-1] not in node.output


def test_a_postgresql_that_does_not_answer(make_node):
    password = "hunter2"
    node = make_node(settings={"index": {"url": f"postgresql://user:{password}@{LOOPBACK}:{free_port()}/none"}})

    said = node.cli("status", exit_code=1).stdout
    assert said.startswith("NOT RUNNING")
    assert "index" in said.partition("To do:")[2]
    assert password not in said
    for command in (["find"], ["db", "upgrade"]):
        done = run(node, *command, "--config", node.config)
        assert_one_sentence(done, "index")
        assert password not in done.stderr
    said = said_at_start(node)
    wait_until(lambda: "index" in node.output.partition("Stop it with Ctrl-C")[2].lower(), what="what is wrong")
    assert password not in said
