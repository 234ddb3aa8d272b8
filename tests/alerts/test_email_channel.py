"""E-mail by a real mail server: encrypted, logged in, refused."""

from __future__ import annotations

import pytest

from backup_scp.alerts.email_channel import EmailChannel, MailSecurity, MailServer
from backup_scp.errors import AlertNotSent
from backup_scp.machine import clock
from backup_scp.ports import Alert
from tests.alerts.servers import PASSWORD, USER, Certificate, mail_server
from tests.processes import LOOPBACK, free_port

ALERT = Alert(
    "drill", "CLINIC", clock.now(), is_alarm=True, subject="CLINIC: drill\nof Müller", text="It FAILED.\nLook"
)
TO = ("doe@clinic.example", "it@clinic.example")
PLAIN, STARTTLS, TLS = MailSecurity.NONE, MailSecurity.STARTTLS, MailSecurity.TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return Certificate.made(tmp_path_factory.mktemp("ca"))


def channel(port: int, security: MailSecurity, **more) -> EmailChannel:
    return EmailChannel(MailServer(LOOPBACK, port, security, **more), "node@clinic.example", TO)


def assert_taken(box) -> None:
    (mail,) = box.mail
    assert mail["Subject"] == "CLINIC: drill of Müller"
    assert (mail["From"], mail["To"]) == ("node@clinic.example", ", ".join(TO))
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@clinic.example>")
    assert mail["Date"].datetime == ALERT.at.replace(microsecond=0)
    assert mail.get_content().splitlines() == ["It FAILED.", "Look"]


def test_without_encryption():
    with mail_server() as box:
        channel(box.port, PLAIN).send(ALERT)
    assert_taken(box)


def test_with_starttls(certificate):
    with mail_server(starttls=certificate.server, asks=True) as box:
        channel(box.port, STARTTLS, ca=certificate.ca, user=USER, password=PASSWORD).send(ALERT)
    assert_taken(box)
    assert box.mail[0]["X-Encrypted"] == "True"


def test_with_tls_from_the_first_byte(certificate):
    with mail_server(tls=certificate.server, asks=True) as box:
        channel(box.port, TLS, ca=certificate.ca, user=USER, password=PASSWORD).send(ALERT)
    assert_taken(box)


@pytest.mark.parametrize("security", [STARTTLS, TLS])
def test_a_server_whose_certificate_is_not_trusted_gets_nothing(certificate, security):
    kind = {"starttls": certificate.server} if security is STARTTLS else {"tls": certificate.server}
    with mail_server(**kind) as box, pytest.raises(AlertNotSent, match="its certificate is not trusted"):
        channel(box.port, security).send(ALERT)
    assert box.mail == []


def test_a_server_without_starttls_gets_neither_password_nor_alert():
    with mail_server(asks=True) as box, pytest.raises(AlertNotSent, match="offers no STARTTLS"):
        channel(box.port, STARTTLS, user=USER, password=PASSWORD).send(ALERT)
    assert box.mail == []


def test_a_wrong_password_is_told_and_not_named():
    with mail_server(asks=True) as box, pytest.raises(AlertNotSent, match="does not accept user and password") as told:
        channel(box.port, PLAIN, user=USER, password="wrong-one").send(ALERT)
    assert "wrong-one" not in str(told.value)


def test_a_server_that_is_off():
    with pytest.raises(AlertNotSent, match=f"{LOOPBACK}, port .* took no alert: Connection refused"):
        channel(free_port(), PLAIN).send(ALERT)


def test_one_refused_recipient_does_not_hold_up_the_others():
    with mail_server() as box:
        box.refused = {TO[0]}
        channel(box.port, PLAIN).send(ALERT)
    assert len(box.mail) == 1


def test_when_every_recipient_is_refused_it_is_not_sent():
    with mail_server() as box:
        box.refused = set(TO)
        with pytest.raises(AlertNotSent, match="refuses every recipient"):
            channel(box.port, PLAIN).send(ALERT)


def test_the_end_stands_in_one_thread_with_the_beginning():
    begin, end = ALERT._replace(number="a1"), ALERT._replace(number="b2", answers=("a1", "a0"))
    with mail_server() as box:
        channel(box.port, PLAIN).send(begin)
        channel(box.port, PLAIN).send(end)
    first, last = box.mail
    assert first["Message-ID"] == "<a1@clinic.example>"
    assert first["In-Reply-To"] is None
    assert last["Message-ID"] == "<b2@clinic.example>"
    assert last["In-Reply-To"] == first["Message-ID"]
    assert last["References"].split() == ["<a1@clinic.example>", "<a0@clinic.example>"]


def test_a_long_subject_is_one_line():
    subject = f"CLINIC: {'the archive has no room, ' * 5}".strip()
    with mail_server() as box:
        channel(box.port, PLAIN).send(ALERT._replace(subject=subject))
    assert box.mail[0]["Subject"] == subject
