"""The settings: one TOML file, then the environment, read once; conf/backup-scp.toml explains each of them.

``BACKUP_SCP_NODE__PORT=11113`` sets ``port`` of ``[node]``; ``BACKUP_SCP_REMOTE`` takes the whole list of remote AEs as
a JSON array and replaces the file's.  ``BACKUP_SCP_HOME`` is the folder of all data.  Variables with our prefix and no
double underscore are not settings (container platforms make some by themselves).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta, Struct

from backup_scp.errors import InvalidSelection, InvalidSettings
from backup_scp.ports import RemoteAE

PREFIX = "BACKUP_SCP_"
HOME = "BACKUP_SCP_HOME"
REMOTE = "BACKUP_SCP_REMOTE"
DEFAULT_HOME = "backup-scp-data"

Seconds = Annotated[float, Meta(gt=0)]
AETitle = Annotated[str, Meta(max_length=16)]


def _ae_title(text: str) -> str:
    """Strip the blanks that do not count, refuse what is no AE title (PS3.5 6.2, AE)."""
    title = text.strip(" ")
    if not title:
        raise ValueError("ae_title is empty: an AE title has 1 to 16 characters")
    if not all(" " <= character <= "~" and character != "\\" for character in title):
        raise ValueError("ae_title: only letters, digits, blanks and signs of ASCII, no backslash")
    return title


class NodeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[node]``: the DIMSE service."""

    ae_title: AETitle = "BACKUP_SCP"
    host: Annotated[str, Meta(min_length=1)] = "0.0.0.0"  # noqa: S104 - consoles reach the node over the network; who may do what is settled per AE
    port: Annotated[int, Meta(ge=0, le=65535)] = 11112
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    check_called_ae_title: bool = True
    maximum_associations: Annotated[int, Meta(ge=1)] = 64
    reserved_associations: Annotated[int, Meta(ge=0)] = 8
    strict_hierarchy: bool = False
    maximum_pdu_length: Annotated[int, Meta(ge=4096, le=16777216)] = 131072
    association_timeout_s: Seconds = 30
    idle_timeout_s: Seconds = 600
    network_timeout_s: Seconds = 60
    connect_timeout_s: Seconds = 10

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ae_title", _ae_title(self.ae_title))


class TLSSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tls]``: what secures Associations."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 2762
    certificate: str = ""
    key: str = ""
    ca: str = ""


class ArchiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[archive]``: where the files are."""

    url: str = ""
    reserve_mb: Annotated[int, Meta(ge=0)] = 1000

    @property
    def reserve_bytes(self) -> int:
        """What stays free on the archive's disk."""
        return self.reserve_mb * 1_000_000


class IndexSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[index]``: the database that knows what is held."""

    url: str = ""


class CommitmentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[commitment]``: Storage Commitment."""

    wait_s: Annotated[float, Meta(ge=0)] = 600
    retry_s: Seconds = 60
    retry_days: Annotated[float, Meta(gt=0)] = 7
    answer_s: Seconds = 60


class VerifySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[verify]``: how often the node reads everything again."""

    full_pass_days: Annotated[float, Meta(ge=0)] = 30


class AlertsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts]``: what a person is told of."""

    changed_studies: Annotated[int, Meta(ge=0)] = 30
    changed_studies_days: Annotated[float, Meta(gt=0)] = 7


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: what is written down, and where."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    json: bool = False
    file: str = ""


class RemoteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[remote]]``: another Application Entity; see ``ports.RemoteAE``."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    ae_title: AETitle
    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 104
    site: Annotated[str, Meta(max_length=64)] = ""
    query: bool = True
    destination: bool = True
    check_address: bool = True
    commitment_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    tls: bool = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ae_title", _ae_title(self.ae_title))
        if not re.fullmatch(r"[^\W_][\w. -]*", self.name):
            raise ValueError("a name is letters, digits, blanks, dots, hyphens and underscores")

    def remote_ae(self) -> RemoteAE:
        """Make the value that the services know."""
        return RemoteAE(**msgspec.structs.asdict(self))


class Sections(Struct, frozen=True, forbid_unknown_fields=True):
    """What a settings file may hold."""

    node: NodeSettings = NodeSettings()
    tls: TLSSettings = TLSSettings()
    archive: ArchiveSettings = ArchiveSettings()
    index: IndexSettings = IndexSettings()
    commitment: CommitmentSettings = CommitmentSettings()
    verify: VerifySettings = VerifySettings()
    alerts: AlertsSettings = AlertsSettings()
    log: LogSettings = LogSettings()
    remote: tuple[RemoteSettings, ...] = ()

    def __post_init__(self) -> None:
        _require_distinct(self.remote)


class Settings(Struct, frozen=True):
    """All settings, checked.

    Attributes
    ----------
    home
        The folder of all data, absolute.
    """

    home: Path
    node: NodeSettings = NodeSettings()
    tls: TLSSettings = TLSSettings()
    archive: ArchiveSettings = ArchiveSettings()
    index: IndexSettings = IndexSettings()
    commitment: CommitmentSettings = CommitmentSettings()
    verify: VerifySettings = VerifySettings()
    alerts: AlertsSettings = AlertsSettings()
    log: LogSettings = LogSettings()
    remote: tuple[RemoteSettings, ...] = ()

    @property
    def remotes(self) -> tuple[RemoteAE, ...]:
        """The configured remote AEs."""
        return tuple(remote.remote_ae() for remote in self.remote)

    @property
    def tls_files(self) -> tuple[Path, Path, Path | None] | None:
        """Certificate, key and CA of ``[tls]``, absolute; None where there is no certificate."""
        if not self.tls.certificate:
            return None
        certificate, key, ca = (
            self.home / Path(text).expanduser() if text else None
            for text in (self.tls.certificate, self.tls.key, self.tls.ca)
        )
        return cast("Path", certificate), cast("Path", key or certificate), ca

    def find_remote(self, name: str) -> RemoteAE | None:
        """Find a remote AE by its name or, where only one has it, by its AE title.

        Raises
        ------
        InvalidSelection
            Several remote AEs have this AE title.
        """
        found = [r for r in self.remotes if r.name == name] or [r for r in self.remotes if r.ae_title == name]
        if len(found) > 1:
            names = ", ".join(remote.name for remote in found)
            raise InvalidSelection(f"{len(found)} remote AEs have the AE title {name}: say which by its name ({names})")
        return found[0] if found else None

    @property
    def archive_path(self) -> Path:
        """The archive's folder, absolute."""
        if not self.archive.url:
            return self.home / "archive"
        return self.home / _path_of(self.archive.url, "[archive] url")

    @property
    def index_url(self) -> str:
        """The index's SQLAlchemy URL; may hold a password."""
        if not self.index.url:
            return sqlite_url(self.home / "index.sqlite")
        scheme, _, rest = self.index.url.partition("://")
        if scheme == "sqlite":
            return sqlite_url(self.home / Path(rest[1:]).expanduser())
        return self.index.url

    @property
    def index_is_embedded(self) -> bool:
        """The index is an SQLite file of this node alone."""
        return self.index_url.startswith("sqlite:")

    @property
    def log_path(self) -> Path | None:
        """The log's file, absolute; None for the standard error output."""
        return self.home / Path(self.log.file).expanduser() if self.log.file else None


def sqlite_url(path: Path) -> str:
    """Write the SQLAlchemy URL of an SQLite file."""
    return f"sqlite:///{path.as_posix()}"


def load(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: defaults, then ``file``, then the environment.

    Raises
    ------
    InvalidSettings
        With the place, what is wrong with it, and what to do.
    """
    raw = _read_toml(file) if file else {}
    _convert(raw, f"{file}: ")
    _override(raw, environment)
    sections = _convert(raw, "Environment: ")
    home = Path(environment.get(HOME) or DEFAULT_HOME).expanduser().absolute()
    settings = Settings(home=home, **{name: getattr(sections, name) for name in Sections.__struct_fields__})
    _require_usable(settings)
    return settings


def _convert(raw: dict[str, Any], source: str) -> Sections:
    try:
        return msgspec.convert(raw, Sections)
    except msgspec.ValidationError as error:
        raise InvalidSettings(source + _sentence(str(error))) from error


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))  # editors on Windows begin a file with a byte order mark
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidSettings(f"The settings file {file} cannot be read ({reason}): check --config") from error
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"The settings file {file} is not UTF-8 text: save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        hint = "text stands in quotes, a Windows path in 'single quotes'"
        raise InvalidSettings(f"The settings file {file} is not TOML ({error}): {hint}") from error


def _override(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    for variable, text in environment.items():
        if variable == REMOTE:
            raw["remote"] = _remote_list(text)
        elif variable.startswith(PREFIX) and "__" in variable:
            section, key, value = _scalar(variable, text)
            table = raw.setdefault(section, {})
            if isinstance(table, dict):  # what is not a table is refused with the rest
                table[key] = value


def _scalar(variable: str, text: str) -> tuple[str, str, Any]:
    section, _, key = variable.removeprefix(PREFIX).lower().partition("__")
    fields = {field.name: field for field in msgspec.structs.fields(Sections)}
    if section not in fields or section == "remote":
        raise InvalidSettings(f"{variable}: there is no section [{section}] that it could set; {_KNOWN}")
    wanted = {field.name: field.type for field in msgspec.structs.fields(fields[section].type)}
    if key not in wanted:
        raise InvalidSettings(f"{variable}: [{section}] has no setting {key}; it has {', '.join(wanted)}")
    try:
        return section, key, msgspec.convert(text, wanted[key], strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{variable}: {_sentence(str(error))}") from error


def _remote_list(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        example = '[{"name": "console", "ae_title": "DR1", "host": "192.168.1.20"}]'
        raise InvalidSettings(f"{REMOTE} is not JSON: write a list such as {example}") from error


_KNOWN = "the sections are " + ", ".join(f"[{name}]" for name in Sections.__struct_fields__ if name != "remote")
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_WORDS = (
    (r"Object contains unknown field `(.+)`", r"there is no setting \1"),
    (r"Object missing required field `(.+)`", r"\1 is missing"),
    (r"Invalid enum value .*", "expected DEBUG, INFO, WARNING or ERROR"),  # [log] level is the only one
    (r", got `.*", ""),
    (r"`str` of length <= (\d+)", r"at most \1 characters"),
    (r"`str` of length >= 1", "some text"),
    (r"`int` >= (\d+)", r"a whole number, at least \1"),
    (r"`int` <= (\d+)", r"a whole number, at most \1"),
    (r"`float` >= (.+)", r"a number, at least \1"),
    (r"`float` > (.+)", r"a number above \1"),
    (r"`float` >= (.+)", r"a number, at least \1"),
    ("`int`", "a whole number"),
    ("`float`", "a number"),
    ("`str`", "text in quotes"),
    ("`bool`", "true or false"),
    ("`object`", "a section in [brackets]"),
    ("`array`", "a list: write [[remote]] in double brackets"),
)


def _sentence(message: str) -> str:
    """Turn msgspec's words into a person's: the place first, no types of a programming language."""
    found = _PLACE.search(message)
    what = _PLACE.sub("", message)
    for pattern, words in _WORDS:
        what = re.sub(pattern, words, what)
    what = what[:1].lower() + what[1:]
    place = _plain_place(found["place"]) if found else ""
    if not place:
        what = what.replace("no setting", "no section")
    return f"{place + ': ' if place else ''}{what}; conf/backup-scp.toml explains every setting"


def _plain_place(place: str) -> str:
    """``node.port`` as ``[node] port``, ``remote[1].host`` as ``[[remote]] number 2, host``."""
    if found := re.fullmatch(r"remote\[(\d+)\]\.?(.*)", place):
        return f"[[remote]] number {int(found[1]) + 1}" + (f", {found[2]}" if found[2] else "")
    section, _, key = place.partition(".")
    return f"[{section}] {key}".strip() if section else ""


def _require_distinct(remotes: tuple[RemoteSettings, ...]) -> None:
    names: set[str] = set()
    places: set[tuple[str, str]] = set()
    for remote in remotes:
        if remote.name in names:
            raise ValueError(f"two [[remote]] have the name {remote.name}: give each its own")
        if (remote.ae_title, remote.host.lower()) in places:
            raise ValueError(f"two [[remote]] have the AE title {remote.ae_title} at one host: keep one of them")
        if any(remote.name == other.ae_title for other in remotes if other is not remote):
            raise ValueError(f"the name {remote.name} is another [[remote]]'s AE title: choose another name")
        names.add(remote.name)
        places.add((remote.ae_title, remote.host.lower()))


def _require_usable(settings: Settings) -> None:
    """Refuse URLs that nothing can open; a URL's text may hold a password and is not repeated."""
    if settings.tls.key and not settings.tls.certificate:
        raise InvalidSettings("[tls] key: there is no certificate that it belongs to; set certificate as well")
    secured = next((remote.name for remote in settings.remote if remote.tls), None)
    if secured and not (settings.tls.certificate and settings.tls.ca):
        raise InvalidSettings(f"[[remote]] {secured}, tls: set certificate, key and ca in [tls] as well")
    if settings.node.workers > 1 and settings.log.file:
        raise InvalidSettings("[log] file: several workers cannot share one; leave it empty, systemd keeps it")
    settings.archive_path  # noqa: B018 - raises
    url = settings.index.url
    scheme, _, rest = url.partition("://")
    if url and scheme not in {"sqlite", "postgresql", "postgresql+psycopg"}:
        raise InvalidSettings("[index] url: it begins with sqlite:/// or postgresql://")
    if scheme == "sqlite" and (not rest.startswith("/") or rest in {"/", "/:memory:"}):
        raise InvalidSettings("[index] url: an SQLite index is a file: write sqlite:///PATH, or leave url empty")


def _path_of(url: str, setting: str) -> Path:
    scheme = urlsplit(url).scheme
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"}:
            raise InvalidSettings(f"{setting}: write file:///PATH with three slashes, or the path itself")
        if os.name == "nt":
            from urllib.request import url2pathname

            return Path(url2pathname(parts.path))
        return Path(unquote(parts.path))
    if len(scheme) > 1:  # one letter is a Windows drive
        raise InvalidSettings(
            f"{setting}: {scheme} is not an archive that this version knows: a folder or file:///PATH"
        )
    return Path(url).expanduser()
