"""backup-scp tls: a small certificate authority of the clinic's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.certificates.certified import Certified
from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import print_json, say

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings
    from backup_scp.node.tls_setup import SettingsForTLS

app = typer.Typer(no_args_is_help=True, help="Certificates of the clinic's own authority, for DICOM and the page.")

_SHORT = timedelta(days=800)


@dataclass(frozen=True, slots=True)
class InitResult:
    """What was made, or was there.

    Attributes
    ----------
    authority
        The certificate authority.
    certificate
        The node's certificate.
    settings
        The lines that are still to be put into the settings file.
    written
        Whether they were written there now.
    """

    authority: Certified
    certificate: Certified
    settings: list[str]
    written: bool


NamesOption = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="HOST", help="A host name or address at which it is called; repeat it for more."),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="Where the files are. Without it: tls in the data folder."),
]


@app.command("init", cls=PlainCommand)
def init(
    context: typer.Context,
    *,
    name: NamesOption = None,
    folder: FolderOption = None,
    any_name: Annotated[
        bool,
        typer.Option(
            "--any-name",
            help="Let the authority certify every name on the Internet: only for old software that refuses its "
            "certificates otherwise (name constraints).",
        ),
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Also put certificate and key into the settings file, after a look at it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --write: do not ask.")] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a certificate authority and a certificate for this node, and say what to do with them.

    The certificate is for the names and addresses of this computer, those of --name, and localhost. What is there
    already stays as it is: run it again after an interruption, or to see the words again.
    """
    settings = settings_of(context, config, creates=True)
    from backup_scp.certificates.certificate_folder import CertificateFolder
    from backup_scp.node.opening import require_owner
    from backup_scp.node.tls_setup import authority_name, own_names, settings_for

    require_owner(settings)
    place = _folder(settings, folder)
    authority, certificate = CertificateFolder(place).init(
        authority_name(settings), name or [], own_names(), any_name=any_name
    )
    wanted = settings_for(settings, Path(certificate.file), Path(certificate.key_file))
    written = False
    if write and wanted.values and (yes or json or _is_agreed(wanted)):
        wanted.write()
        written = True
    if json:
        lines = wanted.lines if not written else []
        print_json(InitResult(authority, certificate, lines, written))
    else:
        _tell(settings, authority, certificate, wanted, written=written)


@app.command("renew", cls=PlainCommand)
def renew(
    context: typer.Context,
    name: NamesOption = None,
    folder: FolderOption = None,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Make the node's certificate again, by the same authority and with the same key.

    It keeps its names, and gets those of --name and this computer's present addresses. A running node takes it within
    a second or two, without a restart; nobody needs to install anything.
    """
    settings = settings_of(context, config)
    from backup_scp.certificates.certificate_folder import CertificateFolder, ends_within
    from backup_scp.node.opening import require_owner
    from backup_scp.node.tls_setup import own_names

    require_owner(settings)
    place = CertificateFolder(_folder(settings, folder))
    certificate = place.renew(name or [], own_names())
    if json:
        print_json(certificate)
        return
    _say_made(certificate, "a certificate")
    if ends_within(authority := place.authority, _SHORT):
        say(
            f"The authority itself ends on {authority.valid_until:%Y-%m-%d}, and no certificate lives longer. Before "
            f"that, move {place.folder} away, run backup-scp tls init, and install the new ca.pem everywhere"
        )


@app.command("client", cls=PlainCommand)
def client(
    context: typer.Context,
    *,
    called: Annotated[str, typer.Argument(metavar="NAME", help="What it is called, such as DR-1; also its files.")],
    name: NamesOption = None,
    old_system: Annotated[
        bool,
        typer.Option("--old-system", help="For Windows before 2018 and macOS before 2023: PKCS #12 with Triple DES."),
    ] = False,
    folder: FolderOption = None,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a certificate for a console, viewer or other program, which shows it when it calls this node.

    The .p12 file (PKCS #12) has certificate, key and authority in one, under a password that is printed once. Consoles
    that want PEM take the other two files and ca.pem. With a NAME that is there its certificate is renewed.
    """
    settings = settings_of(context, config)
    from backup_scp.certificates.certificate_folder import CertificateFolder
    from backup_scp.node.opening import require_owner

    require_owner(settings)
    place = CertificateFolder(_folder(settings, folder))
    made = place.client(called, name or [], for_old_systems=old_system)
    if json:
        print_json(made)
        return
    _say_made(made.certificate, "a certificate")
    say(f"PKCS #12, with key and authority: {made.bundle}")
    say(f"Its password, which is shown only now: {made.password}")
    say(f"In PEM: {made.certificate.file}, {made.certificate.key_file} and {place.authority.file}")
    say("The key is a secret of that one device: bring it there by a USB stick or over TLS, then delete the copies.")


def _folder(settings: Settings, named: Path | None) -> Path:
    from backup_scp.node.tls_setup import FOLDER

    return named.absolute() if named else settings.home / FOLDER


def _is_agreed(wanted: SettingsForTLS) -> bool:
    """Show what changes in the settings file, and ask."""
    if wanted.why_not:
        return True  # ``write`` says why it cannot
    say(f"{wanted.path}:")
    for line in wanted.preview:
        say(f"  {line}")
    return typer.confirm("Write this?", default=True)


def _say_made(certified: Certified, what: str) -> None:
    names = f" for {', '.join(certified.names)}" if certified.names else ""
    verb = "Made" if certified.made else "There is already"
    say(f"{verb} {certified.file}: {what}{names}, until {certified.valid_until:%Y-%m-%d}")


def _tell(
    settings: Settings, authority: Certified, certificate: Certified, wanted: SettingsForTLS, *, written: bool
) -> None:
    _say_made(authority, f"the authority {authority.subject!r}")
    _say_made(certificate, "a certificate")
    say(f"The keys beside them are secret. backup-scp tls renew needs {Path(authority.key_file).name}.")
    say()
    if written:
        say(f"{wanted.path} has certificate and key now: type  backup-scp reload")
    elif wanted.values:
        say(f"Put these lines into {wanted.path or 'the settings'} (--write does it), then type  backup-scp reload:")
        for line in ["", *wanted.lines]:
            say(f"    {line}".rstrip())
        if wanted.why_not:
            say(f"--write cannot do it: {wanted.why_not}")
    else:
        say("The settings have certificate and key already.")
    _tell_what_follows(settings, authority, certificate)


def _tell_what_follows(settings: Settings, authority: Certified, certificate: Certified) -> None:
    from backup_scp.machine.addresses import is_loopback

    host = certificate.names[0]
    say()
    say(f"Browsers: install {authority.file} on each computer (docs/tls.md says how, for each system).")
    if settings.web.public_url:
        say("The page is behind a reverse proxy, which has a certificate of its own.")
    elif is_loopback(settings.web.host):
        say('For other computers to open the page, also set host = "0.0.0.0" in [web].')
    say()
    say("Consoles, in words for their service technician:")
    say(f"  Send to AE title {settings.node.ae_title}, host {host}, port {settings.tls.port}, with TLS 1.2 or 1.3")
    say("  (DICOM PS3.15 B.12, BCP 195). Trust the certificate authority in ca.pem. Its SHA-256:")
    say(f"  {authority.fingerprint}")
    say()
    say("To let in only who has a certificate: backup-scp tls client NAME for each console, then in [tls]:")
    say(f'  ca = "{authority.file}"')
