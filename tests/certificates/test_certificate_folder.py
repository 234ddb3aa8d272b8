"""The clinic's authority and its certificates, as openssl reads them; files, keys and what was interrupted."""

from __future__ import annotations

import shutil
import stat
import subprocess
from datetime import timedelta

import pytest

from backup_scp.certificates.certificate_folder import CertificateFolder, ends_within
from backup_scp.errors import InvalidSelection, InvalidSettings, Unavailable
from backup_scp.machine import clock, whole_file
from tests.processes import peer_missing

NAMES = ["pacs.clinic.example", "192.168.1.5"]


@pytest.fixture
def folder(tmp_path) -> CertificateFolder:
    return CertificateFolder(tmp_path / "tls")


@pytest.fixture
def made(folder) -> CertificateFolder:
    init(folder)
    return folder


def init(folder: CertificateFolder, *named: str, any_name: bool = False):
    return folder.init("Clinic", named or NAMES, ["localhost", "127.0.0.1", "::1"], any_name=any_name)


def openssl(*arguments: object, exit_code: int = 0) -> str:
    if shutil.which("openssl") is None:
        peer_missing("openssl")
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done
    return done.stdout + done.stderr


def contents(folder: CertificateFolder) -> dict[str, bytes]:
    return {str(path.relative_to(folder.folder)): path.read_bytes() for path in folder.folder.rglob("*.p*")}


def test_openssl_verifies_each_name_in_both_directions(made):
    ca, node = made.folder / "ca.pem", made.folder / "node.pem"
    verify = ("verify", "-x509_strict", "-CAfile", ca)
    for purpose in ("sslserver", "sslclient"):
        openssl(*verify, "-purpose", purpose, node)
    openssl(*verify, "-verify_hostname", "pacs.clinic.example", node)
    openssl(*verify, "-verify_ip", "192.168.1.5", node)
    openssl(*verify, "-verify_ip", "::1", node)
    assert "mismatch" in openssl(*verify, "-verify_hostname", "bank.example", node, exit_code=2)


def test_keys_are_private_and_certificates_are_not(made):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.folder.glob("*.pem")}
    assert modes == {"ca.pem": 0o644, "node.pem": 0o644, "ca-key.pem": 0o600, "node-key.pem": 0o600}
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700


def test_how_long_they_live(made):
    text = openssl("x509", "-in", made.folder / "ca.pem", "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in text
    assert "prime256v1" in text
    year = timedelta(days=365)
    assert made.authority.valid_until > clock.now() + 9.9 * year
    certificate = init(made)[1]
    assert not certificate.made
    assert timedelta(days=795) < certificate.valid_until - clock.now() < timedelta(days=824)  # 825: Apple's most


def test_the_stolen_key_of_the_authority_is_for_no_other_site(made, tmp_path):
    """Names outside the constraints are refused here; and by others when somebody signs one with the bare key."""
    with pytest.raises(InvalidSelection, match="not for www\\.bank\\.example"):
        made.renew(["www.bank.example"], [])
    key, request, certificate = (tmp_path / name for name in ("evil-key.pem", "evil.csr", "evil.pem"))
    names = tmp_path / "names"
    names.write_text("subjectAltName=DNS:www.bank.example")
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", request)
    signing = ("-CA", made.folder / "ca.pem", "-CAkey", made.folder / "ca-key.pem", "-CAcreateserial")
    openssl("x509", "-req", "-in", request, *signing, "-extfile", names, "-out", certificate)
    assert "permitted subtree violation" in openssl(
        "verify", "-CAfile", made.folder / "ca.pem", certificate, exit_code=2
    )


def test_an_authority_for_every_name(folder):
    init(folder, any_name=True)
    assert "www.bank.example" in folder.renew(["www.bank.example"], []).names


def test_again_changes_nothing(made):
    before = contents(made)
    authority, certificate = init(made, "other.clinic.example")
    assert not authority.made
    assert not certificate.made
    assert contents(made) == before


def test_a_renewal_keeps_key_authority_and_names_and_adds_the_new_ones(made):
    before = contents(made)
    certificate = made.renew(["nas.local"], ["10.1.2.3", "8.8.8.8"])  # the last one is not within the constraints
    after = contents(made)
    assert {name for name in after if after[name] != before[name]} == {"node.pem"}
    assert set(certificate.names) == {*NAMES, "localhost", "127.0.0.1", "::1", "nas.local", "10.1.2.3"}
    openssl("verify", "-CAfile", made.folder / "ca.pem", "-verify_hostname", "nas.local", made.folder / "node.pem")


def test_a_certificate_for_a_console(made):
    client = made.client("DR-1", [], for_old_systems=False)
    openssl(
        "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", made.folder / "ca.pem", client.certificate.file
    )
    shown = openssl("pkcs12", "-in", client.bundle, "-passin", f"pass:{client.password}", "-nodes", "-info")
    assert shown.count("BEGIN CERTIFICATE") == 2
    assert "AES-256-CBC" in shown
    assert "invalid password" in openssl("pkcs12", "-in", client.bundle, "-passin", "pass:x", "-nodes", exit_code=1)
    again = made.client("DR-1", [], for_old_systems=True)
    assert "pbeWithSHA1And3-KeyTripleDES" in openssl(
        "pkcs12", "-in", again.bundle, "-passin", f"pass:{again.password}", "-nodes", "-info"
    )
    assert client.password != again.password
    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in (made.folder / "clients").glob("DR-1*[!m]")}
    assert modes == {".p12": 0o600}
    assert stat.S_IMODE((made.folder / "clients" / "DR-1-key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["../x", "a b", "", ".hidden", "a/b"])
def test_names_of_consoles_are_names_of_files(made, name):
    with pytest.raises(InvalidSelection):
        made.client(name, [], for_old_systems=False)


@pytest.mark.parametrize("name", ["a b", "-x.example", "300.1.1.1.", "pacs..example", "x" * 64, "*"])
def test_what_is_no_host_name_makes_nothing(folder, name):
    with pytest.raises(InvalidSelection, match="host name"):
        init(folder, name)
    assert not folder.folder.exists()


@pytest.mark.parametrize("call", range(8))
@pytest.mark.parametrize("at", ["_written", "_take_free_name"])
def test_an_interruption_leaves_whole_files_and_init_goes_on(folder, monkeypatch, at, call):
    """Break off before each file is written, or has its name, one after the other."""
    real, calls = getattr(whole_file, at), iter(range(100))

    def break_off(*arguments):
        if next(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(whole_file, at, break_off)
    if call < 4:
        with pytest.raises(Unavailable, match="No space"):
            init(folder)
    monkeypatch.undo()
    kept = contents(folder)
    assert not [name for name in kept if name.endswith(".part")]
    init(folder)
    assert {name: content for name, content in contents(folder).items() if name in kept} == kept
    openssl("verify", "-CAfile", folder.folder / "ca.pem", folder.folder / "node.pem")


@pytest.mark.parametrize(("gone", "words"), [("ca-key.pem", "ca-key.pem is missing"), ("ca.pem", "ca.pem is missing")])
def test_a_lost_authority_is_not_replaced_by_another(made, gone, words):
    (made.folder / gone).unlink()
    (made.folder / "node-key.pem").unlink()
    with pytest.raises(InvalidSettings, match=words):
        init(made)
    assert not (made.folder / gone).exists()


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("file", ["ca.pem", "ca-key.pem"])
def test_files_that_are_something_else(made, file, content):
    (made.folder / file).write_bytes(content)
    with pytest.raises(InvalidSettings, match=file):
        made.renew([], [])


def test_another_ones_key(made, tmp_path):
    other = CertificateFolder(tmp_path / "other")
    init(other)
    shutil.copyfile(other.folder / "ca-key.pem", made.folder / "ca-key.pem")
    with pytest.raises(InvalidSettings, match="is not the key of"):
        made.renew([], [])


def test_no_certificate_outlives_its_authority(made, monkeypatch):
    end = made.authority.valid_until
    monkeypatch.setattr(clock, "now", lambda: end - timedelta(days=10))
    assert made.renew([], []).valid_until == end
    assert ends_within(made.authority, timedelta(days=11))
    monkeypatch.setattr(clock, "now", lambda: end)
    with pytest.raises(InvalidSelection, match="has expired"):
        made.renew([], [])


def test_international_names(folder):
    assert "xn--mller-kva.example" in init(folder, "Müller.example")[1].names
