"""Names of certificates, as people write them and as certificates have them."""

from __future__ import annotations

import pytest

from backup_scp.machine.certificate_names import names_in, normal_name

DIGEST = "ab" * 32
PAIRS = ":".join(["AB"] * 32)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (f"SHA256:{PAIRS}", f"SHA256:{DIGEST}"),
        (f"sha256 Fingerprint={PAIRS}", f"SHA256:{DIGEST}"),  # OpenSSL 3
        (f"SHA256 Fingerprint={PAIRS}", f"SHA256:{DIGEST}"),  # OpenSSL 1.1.1
        (f" SHA-256: {DIGEST.upper()} ", f"SHA256:{DIGEST}"),
        ("CN=DR-1", "CN=DR-1"),
        ("cn = DR-1", "CN=DR-1"),
        ("CN=viewer,O=Clinic North,C=DE", "C=DE,CN=viewer,O=Clinic North"),
        ("subject=C = DE, O = Clinic North, CN = viewer", "C=DE,CN=viewer,O=Clinic North"),  # openssl x509 -subject
        (r"CN=Doe\, John", r"CN=Doe\, John"),
        ("commonName=x,emailAddress=a@b", "CN=x,emailaddress=a@b"),
        ("DNS:DR-1.Local.", "DNS:dr-1.local"),
        ("IP:2001:0DB8::7", "IP:2001:db8::7"),
        ("URI:urn:dr:1", "URI:urn:dr:1"),
    ],
)
def test_one_form_for_each_name(written, normal):
    assert normal_name(written) == normal
    assert normal_name(normal) == normal


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("SHA256:abcd", "64 hexadecimal digits"),
        ("SHA1 Fingerprint=AB:CD", "only SHA-256"),
        ("sha1:abcd", "only SHA-256"),
        ("DR-1", "CN=NAME"),
        ("", "CN=NAME"),
        ("CN=", "CN=NAME"),
        ("CN=a,", "CN=NAME"),
        ("IP:192.0.2.0/24", "one address"),
        ("IP:dr-1", "one address"),
    ],
)
def test_what_is_no_name_is_refused_with_what_to_write(written, reason):
    with pytest.raises(ValueError, match=reason):
        normal_name(written)


def names(*subject: tuple[str, str], alternative: tuple[tuple[str, str], ...] = ()) -> set[str]:
    found = names_in(b"", {"subject": tuple((one,) for one in subject), "subjectAltName": alternative})
    return {name for name in found if not name.startswith("SHA256:")}


def test_a_certificate_has_its_subject_its_common_name_and_its_alternatives():
    alternative = (("DNS", "DR-1.local"), ("IP Address", "2001:DB8:0:0:0:0:0:7"), ("URI", "urn:dr:1"), ("email", "a@b"))
    assert names(("organizationName", "Clinic"), ("commonName", "DR-1"), alternative=alternative) == {
        "CN=DR-1", "CN=DR-1,O=Clinic", "DNS:dr-1.local", "IP:2001:db8::7", "URI:urn:dr:1",
    }  # fmt: skip


def test_a_comma_in_a_common_name_is_no_further_attribute():
    assert normal_name("CN=viewer,O=Clinic") not in names(("commonName", "viewer,O=Clinic"))


def test_a_backslash_in_a_common_name_hides_nothing():
    for value in ("a\\", "a\\,b", "a+b", "a\\\\,O=x"):
        (name,) = names(("commonName", value))
        assert normal_name(name) == name


def test_two_common_names_are_none():
    assert names(("commonName", "other"), ("commonName", "viewer")) == {"CN=other,CN=viewer"}


def test_a_wildcard_stands_for_itself_alone():
    assert normal_name("DNS:dr-1.local") not in names(alternative=(("DNS", "*.local"),))
