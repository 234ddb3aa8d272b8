"""When certificates end, of files that a real authority made."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from backup_scp.certificates.authority import new_authority, new_key, pem_of
from backup_scp.node.health.certificates import certificate_states
from backup_scp.node.settings import load

LIFE_DAYS = 3650  # of an authority


@pytest.fixture
def settings_of(tmp_path):
    def settings_of(text="", **variables):
        environment = {f"BACKUP_SCP_{name}": str(value) for name, value in variables.items()}
        (tmp_path / "settings.toml").write_text(text)
        return load(tmp_path / "settings.toml", {"BACKUP_SCP_HOME": str(tmp_path)} | environment)

    return settings_of


class TestCertificates:
    @pytest.fixture
    def authority(self):
        return trustme.CA()

    @pytest.fixture
    def issued(self, tmp_path, authority, settings_of):
        def issued(**facts):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of dates without a zone, which trustme wants
                leaf = authority.issue_cert("node.clinic.example", **facts)
            (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
            (tmp_path / "key.pem").write_bytes(leaf.private_key_pem.bytes())
            authority.cert_pem.write_to_path(tmp_path / "ca.pem")
            return settings_of(TLS__CERTIFICATE="cert.pem", TLS__KEY="key.pem", TLS__CA="ca.pem")

        return issued

    def said(self, settings) -> str:
        return "\n".join(one.trouble for one in certificate_states(settings, datetime.now(UTC)) if one.trouble)

    def test_none(self, settings_of):
        assert self.said(settings_of()) == ""

    def test_one_that_is_valid(self, issued):
        settings = issued()
        assert self.said(settings) == ""
        (one,) = certificate_states(settings, datetime.now(UTC))
        assert one.section == "[tls]"
        assert one.ends_at is not None

    @pytest.mark.parametrize(
        ("before", "after", "words"),
        [(-20, -10, "has expired"), (10, 20, "is not yet valid"), (-20, 10, "is valid until ")],
    )
    def test_its_dates(self, issued, before, after, words):
        today = datetime.now(UTC).replace(tzinfo=None)
        facts = {"not_before": today + timedelta(days=before), "not_after": today + timedelta(days=after)}
        assert words in self.said(issued(**facts))

    def test_the_page_has_its_own_and_the_same_files_are_told_once(self, issued, settings_of):
        issued()
        web = {"WEB__CERTIFICATE": "cert.pem", "WEB__KEY": "missing.pem"}
        assert self.said(settings_of(**web)).startswith("[web] certificate")
        assert self.said(settings_of(WEB__ENABLED="false", **web)) == ""
        same = {"WEB__CERTIFICATE": "no.pem", "WEB__KEY": "no.pem", "TLS__CERTIFICATE": "no.pem", "TLS__KEY": "no.pem"}
        assert self.said(settings_of(**same)).startswith("[tls] certificate")
        assert len(self.said(settings_of(**same)).splitlines()) == 1

    def test_an_authority_that_ends_first_is_named(self, issued, settings_of, tmp_path):
        issued()
        today = datetime.now(UTC)
        key = new_key()
        ending = new_authority(key, "Ending", [], today - timedelta(days=3640), any_name=False)
        (tmp_path / "ca.pem").write_bytes(pem_of(ending))
        said = self.said(settings_of(TLS__CERTIFICATE="cert.pem", TLS__KEY="key.pem", TLS__CA="ca.pem"))
        assert said.startswith(f"[tls] ca {tmp_path / 'ca.pem'} is valid until ")

    def test_the_one_that_a_syslog_server_sees(self, issued, settings_of):
        issued()
        shown = '[audit]\nsyslog = "tls://log.example"\ncertificate = "cert.pem"\n'
        assert self.said(settings_of(f'{shown}key = "key.pem"\n')) == ""
        assert self.said(settings_of(f'{shown}key = "missing.pem"\n')).startswith("[audit] certificate")

    def test_files_that_are_not_there(self, settings_of):
        assert "No such file" in self.said(settings_of(TLS__CERTIFICATE="cert.pem", TLS__KEY="key.pem"))

    def test_certificate_and_key_exchanged(self, issued, settings_of):
        issued()
        exchanged = settings_of(TLS__CERTIFICATE="key.pem", TLS__KEY="cert.pem")
        assert "certificate and key are exchanged" in self.said(exchanged)

    def test_another_ones_key(self, issued, tmp_path):
        settings = issued()
        trustme.CA().issue_cert("other.example").private_key_pem.write_to_path(tmp_path / "key.pem")
        assert "mismatch" in self.said(settings)


class TestAuthoritiesOfOthers:
    """Of servers that we call: mail, webhook, copies, OpenID Connect."""

    @pytest.fixture
    def ending_in(self):
        """Return ``ending_in(days)``: the certificate of an authority in PEM."""

        def ending_in(days: float) -> bytes:
            begins = datetime.now(UTC) + timedelta(days=days - LIFE_DAYS)
            return pem_of(new_authority(new_key(), "Mail", [], begins, any_name=False))

        return ending_in

    @pytest.fixture
    def states(self, tmp_path, settings_of):
        def states(*pems: bytes, text='[alerts]\nca = "mail.pem"\n'):
            (tmp_path / "mail.pem").write_bytes(b"".join(pems))
            return certificate_states(settings_of(text), datetime.now(UTC))

        return states

    def test_it_is_asked_for_thirty_days_before(self, states, ending_in, tmp_path):
        (well,) = states(ending_in(40))
        assert (well.section, well.trouble) == ("[alerts]", "")
        (soon,) = states(ending_in(20))
        assert soon.trouble.startswith(f"[alerts] ca {tmp_path / 'mail.pem'} is valid until {soon.ends_at:%Y-%m-%d}")
        (over,) = states(ending_in(-20))
        assert "has ended" in over.trouble
        assert over.ends_at is None

    def test_one_with_the_next_beside_it_is_ready(self, states, ending_in):
        (state,) = states(ending_in(-20), ending_in(10), ending_in(400))
        assert state.trouble == ""
        assert state.ends_at is not None

    def test_each_copy_names_its_own(self, states, ending_in):
        copy = '[[copy]]\nname = "far"\nurl = "dicomweb+https://pacs.example/web"\nca = "mail.pem"\n'
        assert [state.section for state in states(ending_in(20), text=copy)] == ["[[copy]] far"]
        assert len(states(ending_in(20), text=f'[alerts]\nca = "mail.pem"\n{copy}')) == 1, "one file is told once"

    def test_that_of_a_syslog_server(self, states, ending_in):
        (soon,) = states(ending_in(20), text='[audit]\nsyslog = "tls://log.example"\nca = "mail.pem"\n')
        assert soon.trouble.startswith("[audit] ca ")

    @pytest.mark.parametrize("content", [b"", b"no certificate"])
    def test_what_cannot_be_read_is_left_to_those_who_need_it(self, states, content):
        assert states(content) == []
