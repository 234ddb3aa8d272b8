"""Our node as a process: start, query, stop and kill it as a user or a power cut does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.processes import LOOPBACK, ROOT, Process, clean_environment, free_port
from tests.samples import Sample
from tests.system import raw_sender

TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Remote:
    """A remote AE: a `[[remote]]` of the settings, and the address of a peer."""

    name: str
    ae_title: str
    port: int
    host: str = LOOPBACK
    site: str = ""
    query: bool = True
    destination: bool = True
    check_address: bool = True
    tls: bool | str = False
    sites: tuple[str, ...] = ()
    brings_sites: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    certificate: tuple[str, ...] = ()


class Node:
    """One node with its settings file and its data below `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        remotes: Iterable[Remote] = (),
        copies: Iterable[Mapping[str, object]] = (),
        settings: Mapping[str, Mapping[str, object]] | None = None,
        ae_title: str = "BACKUP_SCP",
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        user: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port, self.ae_title = LOOPBACK, free_port(), ae_title
        self.home = folder / "data"
        self.config = folder / "backup-scp.toml"
        self.remotes, self.copies = list(remotes), list(copies)
        self.settings = {section: dict(values) for section, values in (settings or {}).items()}
        self.env = clean_environment(BACKUP_SCP_HOME=str(self.home), PYTHONPATH=str(ROOT)) | dict(env or {})
        self.python = python
        self.process = Process(self._argv("serve"), folder / "node.log", self.env, user)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """Everything that the node has printed, over all its starts."""
        return self.process.output

    @property
    def remote(self) -> Remote:
        """Describe this node as a remote AE of another."""
        return Remote(self.ae_title.lower(), self.ae_title, self.port)

    def start(self, timeout_s: float = 60.0) -> None:
        """Write the settings, start `serve`, and return when it answers C-ECHO.

        It, and not another node that was given the same port while this one did not run.
        """
        self.write_settings()
        starts = self._starts()
        self.process.launch(lambda: self._starts() > starts and self.echo(), timeout_s)

    def _starts(self) -> int:
        return self.output.count(f" is ready: AE title {self.ae_title}, port {self.port}")

    def stop(self) -> None:
        """SIGTERM; it must end with exit code 0 and without a traceback in its output."""
        code = self.process.terminate()
        assert code == 0, f"the node ended with {code}:\n{self.process.tail()}"
        assert TRACEBACK not in self.output, self.process.tail()

    def kill(self) -> None:
        """SIGKILL: what a crash leaves behind."""
        self.process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """End of the test: stop it as a user does, if the test has not."""
        if self.process.running:
            self.stop()
        self.process.close()

    def write_settings(self) -> None:
        """Write the settings file from `settings`, `remotes` and `copies`, which a test may change between starts."""
        node = {"ae_title": self.ae_title, "host": self.host, "port": self.port} | self.settings.get("node", {})
        tables = [_table("[node]", node)]
        tables += [_table(f"[{name}]", values) for name, values in self.settings.items() if name != "node"]
        tables += [_table("[[remote]]", vars(remote)) for remote in self.remotes]
        tables += [_table("[[copy]]", copy) for copy in self.copies]
        self.config.write_text("\n".join(tables))

    def cli(self, *arguments: str | Path, exit_code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `backup-scp ARGUMENTS --config FILE`; `exit_code` None accepts any."""
        if not self.config.exists():
            self.write_settings()
        done = subprocess.run(
            self._argv(*map(str, arguments)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=self.env,
            cwd=self.config.parent,
            timeout=110,
        )
        said = f"backup-scp {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        assert exit_code in {None, done.returncode}, said
        assert TRACEBACK not in done.stderr, said
        return done

    def json(self, *arguments: str | Path, exit_code: int | None = 0):
        """Run a command with `--json` and return its result."""
        return json.loads(self.cli(*arguments, "--json", exit_code=exit_code).stdout)

    def echo(self) -> bool:
        return raw_sender.echo(self)

    def send(self, samples: Iterable[Sample], *, calling: str = "RAW_SENDER") -> list[raw_sender.Answer]:
        """C-STORE samples, each under its own SOP Class and Transfer Syntax; return the answers."""
        return raw_sender.send(self, samples, calling=calling)

    def store(self, *paths: Path, calling: str = "RAW_SENDER") -> None:
        """C-STORE files, and folders with files, exactly as they are; each must be answered with success."""
        files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        samples = [Sample.of_file(file) for file in files if file.is_file()]
        known = [sample for sample in samples if sample is not None]
        assert len(known) == len(samples), "a file names no SOP Instance"
        refused = {
            s.name: answer for s, answer in zip(known, self.send(known, calling=calling), strict=True) if answer.status
        }
        assert not refused, refused

    def restored(self, folder: Path, *arguments: str) -> list[Path]:
        """Restore everything, every version, to a new folder; return the files."""
        self.cli("restore", "--to", folder, *(arguments or ("--all", "--versions", "all")))
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that the running process has had (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    def _argv(self, command: str, *arguments: str) -> list[str]:
        return [self.python, "-m", "backup_scp", command, *arguments, "--config", str(self.config)]


def assert_one_sentence(done: subprocess.CompletedProcess[str], *words: str, exit_code: int = 1) -> None:
    """It failed, and said why in one line, with what to do."""
    assert done.returncode == exit_code, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("backup-scp: ")
    assert TRACEBACK not in line
    for word in words:
        assert word in line


def _table(header: str, values: Mapping[str, object]) -> str:
    return "\n".join([header, *(f"{key} = {_toml(value)}" for key, value in values.items())]) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)
