"""The settings as the rest of the program uses them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backup_scp.errors import InvalidSelection, InvalidSettings
from backup_scp.machine.addresses import is_loopback
from backup_scp.node.settings.sections import Sections
from backup_scp.ports import RemoteAE


class Settings(Sections, frozen=True, kw_only=True):
    """All settings, checked: the sections, and the folder of all data.

    Attributes
    ----------
    home
        The folder of all data, absolute.
    home_source
        The variable or the place in a file that names it; empty for the default.
    file
        The settings file, absolute; None without one.
    """

    home: Path
    home_source: str = ""
    file: Path | None = None

    @property
    def remotes(self) -> tuple[RemoteAE, ...]:
        """The configured remote AEs."""
        return tuple(remote.remote_ae() for remote in self.remote)

    @property
    def tls_files(self) -> tuple[Path, Path, Path | None] | None:
        """Absolute paths of certificate, key and CA of ``[tls]``; None without a certificate."""
        return self._credentials(self.tls.certificate, self.tls.key, self.tls.ca)

    @property
    def web_tls_files(self) -> tuple[Path, Path, Path | None] | None:
        """Absolute paths of certificate, key and CA of ``[web]``; None without a certificate."""
        return self._credentials(self.web.certificate, self.web.key, self.web.ca)

    @property
    def audit_files(self) -> tuple[Path, Path, Path | None] | None:
        """Absolute paths of certificate and key that a syslog server sees; None without a certificate."""
        return self._credentials(self.audit.certificate, self.audit.key, "")

    def _credentials(self, *texts: str) -> tuple[Path, Path, Path | None] | None:
        certificate, key, ca = (self.home / Path(text).expanduser() if text else None for text in texts)
        return None if certificate is None else (certificate, key or certificate, ca)

    @property
    def web_token_file(self) -> Path | None:
        """The file with the tokens of ``[web]``, absolute; None without one."""
        return self.home / Path(self.web.token_file).expanduser() if self.web.token_file else None

    def find_remote(self, name: str) -> RemoteAE | None:
        """Find a remote AE by its name, or by its AE title when only one has that.

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
        """The index's SQLAlchemy URL; it may contain a password."""
        if not self.index.url:
            return _sqlite_url(self.home / "index.sqlite")
        scheme, _, rest = self.index.url.partition("://")
        if scheme == "sqlite":
            return _sqlite_url(self.home / Path(rest[1:]).expanduser())
        return self.index.url

    @property
    def index_is_embedded(self) -> bool:
        """Whether the index is an SQLite file of this node alone."""
        return self.index_url.startswith("sqlite:")

    @property
    def log_path(self) -> Path | None:
        """The log's file, absolute; None for the standard error output."""
        return self.home / Path(self.log.file).expanduser() if self.log.file else None


def _sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite file."""
    return f"sqlite:///{path.as_posix()}"


def require_usable(settings: Settings) -> None:
    """Raise for URLs that cannot be opened.  The text leaves out the URL, which may contain a password.

    Raises
    ------
    InvalidSettings
    """
    if settings.tls.key and not settings.tls.certificate:
        raise InvalidSettings("[tls] key: there is no certificate that it belongs to; set certificate as well")
    secured = next((remote.name for remote in settings.remote if remote.tls), None)
    if secured and not (settings.tls.certificate and settings.tls.ca):
        raise InvalidSettings(f"[[remote]] {secured}, tls: set certificate, key and ca in [tls] as well")
    named = next((remote.name for remote in settings.remote if remote.certificate), None)
    if named and not (settings.tls.certificate and settings.tls.ca):
        raise InvalidSettings(
            f"[[remote]] {named}, certificate: set certificate, key and ca in [tls] as well: only then is one checked"
        )
    _require_usable_identities(settings)
    if not settings.node.plain and not settings.tls.certificate:
        raise InvalidSettings("[node] plain = false leaves no port: set certificate and key in [tls] as well")
    _require_usable_web(settings)
    if settings.node.workers > 1 and settings.log.file:
        raise InvalidSettings("[log] file: several workers cannot share one; leave it empty, systemd keeps it")
    off_site = sum(copy.is_off_site for copy in settings.copy)
    for key, wanted, there in (
        ("copies", settings.commitment.copies, len(settings.copy)),
        ("off_site_copies", settings.commitment.off_site_copies, off_site),
    ):
        if wanted > there:
            raise InvalidSettings(
                f"[commitment] {key} = {wanted}: there are only {there} such [[copy]] in the settings"
            )
    settings.archive_path  # noqa: B018 - raises
    url = settings.index.url
    scheme, _, rest = url.partition("://")
    if url and scheme not in {"sqlite", "postgresql", "postgresql+psycopg"}:
        raise InvalidSettings("[index] url: it begins with sqlite:/// or postgresql://")
    if scheme == "sqlite" and (not rest.startswith("/") or rest in {"/", "/:memory:"}):
        raise InvalidSettings("[index] url: an SQLite index is a file: write sqlite:///PATH, or leave url empty")


def _require_usable_identities(settings: Settings) -> None:
    for remote in settings.remote:
        if remote.user_identity not in {"password", "token"}:
            continue
        where = f"[[remote]] {remote.name}, user_identity"
        if not settings.tls.certificate and not is_loopback(remote.host):
            raise InvalidSettings(f"{where}: others could read the secret; set certificate and key in [tls] as well")
        if remote.user_identity == "token":
            if not settings.web.openid_connect.is_on:
                raise InvalidSettings(f"{where}: name who signs the tokens, in [web.openid_connect]")
        elif not settings.web.openid_connect.passwords:
            raise InvalidSettings(f"{where}: [web.openid_connect] passwords = false leaves no user a password")


def _require_usable_web(settings: Settings) -> None:
    web = settings.web
    if (web.key or web.ca) and not web.certificate:
        raise InvalidSettings(
            f"[web] {'key' if web.key else 'ca'}: set certificate as well, without which there is no TLS"
        )


def require_path(text: str, setting: str) -> None:
    """Raise for a Windows drive on another system, where it would become a folder with the name ``D:``.

    Raises
    ------
    InvalidSettings
    """
    if os.name != "nt" and re.match(r"[A-Za-z]:([\\/]|$)", text):
        raise InvalidSettings(f"{setting}: {text[:2]} is a drive of Windows, and this is not Windows: write /PATH")


def _path_of(url: str, setting: str) -> Path:
    scheme = urlsplit(url).scheme
    require_path(url, setting)
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


def first_line(settings: Settings, file: str, what: str) -> str:
    """Return the first line of a file with a secret, which a setting names.

    Raises
    ------
    InvalidSettings
        The text begins with ``what``, the setting.
    """
    try:
        lines = (settings.home / Path(file).expanduser()).read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidSettings(f"{what}: {file} cannot be read ({reason})") from None
    if not lines or not lines[0].strip():
        raise InvalidSettings(f"{what}: {file} is empty")
    return lines[0].strip()
