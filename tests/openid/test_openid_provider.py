"""The Authorization Code flow against a provider that lies: nothing forged is believed, and the provider is spared."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from backup_scp.errors import ProviderRefused, ProviderUnavailable
from backup_scp.machine import clock
from backup_scp.openid import provider_calls
from backup_scp.openid.openid_provider import OpenIDProvider
from backup_scp.ports import FederatedIdentity
from tests.openid.forger import CLIENT, KEY, OTHER_KEY, SECRET, Forger
from tests.processes import LOOPBACK, free_port

BACK = "https://pacs.example/login/openid/callback"
EVENT: dict[str, dict] = {"http://schemas.openid.net/event/backchannel-logout": {}}


class Watch:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def part(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(header: dict, claims: dict) -> str:
    """Forge a token that says it needs no signature."""
    return f"{part(json.dumps({'alg': 'none'}).encode())}.{part(json.dumps(claims).encode())}."


def with_public_key_as_secret(header: dict, claims: dict) -> str:
    """Forge a token with what everybody knows: the public key, as if it were a shared secret."""
    signed = f"{part(json.dumps(header | {'alg': 'HS256'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.new(KEY.as_pem(private=False), signed.encode(), hashlib.sha256).digest())}"


def by_another_key(header: dict, claims: dict) -> str:
    return jwt.encode(header, claims, OTHER_KEY)


def changed_after_signing(header: dict, claims: dict) -> str:
    head, _, signature = jwt.encode(header, claims, KEY).split(".")
    return f"{head}.{part(json.dumps(claims | {'sub': 'admin'}).encode())}.{signature}"


def with_its_own_key(header: dict, claims: dict) -> str:
    """Forge a token that brings the key to check it with."""
    return jwt.encode(header | {"jwk": OTHER_KEY.as_dict(private=False)}, claims, OTHER_KEY)


def log_in(provider: OpenIDProvider, forger: Forger, **changed: str):
    begun = provider.begin(BACK)
    return provider.finish(begun, forger.follow(begun.address) | changed)


@pytest.fixture
def provider(forger):
    return OpenIDProvider(forger.registration())


class TestBegin:
    def test_what_the_browser_brings_there(self, forger, provider):
        address = urlsplit(provider.begin(BACK).address)
        asked = dict(parse_qsl(address.query))
        assert f"{address.scheme}://{address.netloc}{address.path}" == f"{forger.issuer}/authorize"
        assert {name: asked[name] for name in ("tenant", "response_type", "client_id", "redirect_uri", "scope")} == {
            "tenant": "1",
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": BACK,
            "scope": "openid profile email",
        }
        assert asked["code_challenge_method"] == "S256"
        assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43

    def test_each_has_its_own_secrets(self, forger, provider):
        secrets = [(one.state, one.nonce, one.verifier) for one in (provider.begin(BACK), provider.begin(BACK))]
        assert len({text for three in secrets for text in three}) == 6
        assert secrets[0][1] not in repr(provider.begin(BACK))
        assert forger.asked_for("/.well-known/openid-configuration") == 1

    @pytest.mark.parametrize(
        ("changed", "match"),
        [
            ({"issuer": "https://evil.example"}, "it calls itself https://evil.example: write exactly this as issuer"),
            ({"issuer": None}, "as OpenID Connect says: is issuer right"),
            ({"token_endpoint": None}, "as OpenID Connect says: is issuer right"),
            ({"token_endpoint": "http://evil.example/token"}, "without https: http://evil.example/token"),
            ({"jwks_uri": "ftp://evil.example"}, "without https"),
            ({"end_session_endpoint": "javascript:alert(1)"}, "without https"),
            ({"authorization_endpoint": "//evil.example"}, "without https"),
        ],
    )
    def test_a_discovery_document_that_is_not_its_own(self, forger, provider, changed, match):
        forger.metadata = changed
        with pytest.raises(ProviderUnavailable, match=match):
            provider.begin(BACK)
        assert forger.asked_for("/token") == 0

    @pytest.mark.parametrize(
        ("answer", "match"),
        [
            ((404, b""), "it answers status 404"),
            ((302, b""), "it answers status 302"),
            ((200, b"<html>"), "is issuer right"),
            ((200, b"[" * 200_000), "is issuer right"),
            ((200, b" " * (provider_calls._MOST_BYTES + 1)), "has more than 262144 bytes"),
        ],
    )
    def test_an_answer_that_is_none(self, forger, provider, answer, match):
        forger.answers["/.well-known/openid-configuration"] = answer
        with pytest.raises(ProviderUnavailable, match=match):
            provider.begin(BACK)
        assert [path for path, _, _ in forger.requests] == ["/.well-known/openid-configuration"]  # no redirection

    def test_a_provider_that_is_off_is_named_in_words(self, forger):
        client = forger.registration()
        off = type(client)(f"http://{LOOPBACK}:{free_port()}", CLIENT, SECRET, "Clinic login")
        with pytest.raises(
            ProviderUnavailable, match=f"Clinic login does not answer at {LOOPBACK}: Connection refused"
        ):
            OpenIDProvider(off).begin(BACK)

    def test_a_provider_that_was_off_is_asked_again_a_moment_later(self, forger):
        watch = Watch()
        provider = OpenIDProvider(forger.registration(), watch)
        forger.answers["/.well-known/openid-configuration"] = (503, b"")
        for at in (0.0, 1.0):
            watch.now = at
            with pytest.raises(ProviderUnavailable, match="status 503"):
                provider.begin(BACK)
        assert len(forger.requests) == 1
        forger.answers.clear()
        watch.now = 3.0
        assert provider.begin(BACK).address


class TestFinish:
    def test_who_it_is(self, forger, provider):
        forger.claims = {
            "preferred_username": "anna",
            "name": "Anna Smith",
            "email": "Anna@Clinic.example",
            "email_verified": True,
            "groups": ["radiology", 7, "clinic"],
        }
        person = log_in(provider, forger)
        assert person.identity == FederatedIdentity(forger.issuer, "4711")
        assert person.names == ("anna", "Anna@Clinic.example", "Anna Smith")
        assert (person.email, person.groups) == ("anna@clinic.example", {"radiology", "clinic"})
        assert not person.used_second_factor

    def test_the_code_is_redeemed_by_who_has_begun(self, forger, provider):
        begun = provider.begin(BACK)
        asked = parse_qs(urlsplit(begun.address).query)
        provider.finish(begun, forger.follow(begun.address))
        _, headers, form = next(one for one in forger.requests if one[0] == "/token")
        challenge = part(hashlib.sha256(form["code_verifier"].encode()).digest())
        assert (form["code"], form["redirect_uri"], [challenge]) == ("a-code", BACK, asked["code_challenge"])
        name, _, secret = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
        assert (unquote(name), unquote(secret), "client_secret" in form) == (CLIENT, SECRET, False)

    @pytest.mark.parametrize(
        ("secret", "methods", "has_secret"),
        [(SECRET, ["client_secret_post"], True), ("", ["client_secret_basic"], False)],
    )
    def test_another_way_to_say_who_the_node_is(self, forger, secret, methods, has_secret):
        forger.metadata = {"token_endpoint_auth_methods_supported": methods}
        log_in(OpenIDProvider(forger.registration(secret=secret)), forger)
        _, headers, form = next(one for one in forger.requests if one[0] == "/token")
        assert "Authorization" not in headers
        assert (form["client_id"], form.get("client_secret")) == (CLIENT, SECRET if has_secret else None)

    @pytest.mark.parametrize(
        "sign", [unsigned, with_public_key_as_secret, by_another_key, changed_after_signing, with_its_own_key]
    )
    def test_a_signature_that_is_none(self, forger, provider, sign):
        forger.sign = sign
        with pytest.raises(ProviderRefused, match=r"is not signed by the provider|proves nothing"):
            log_in(provider, forger)

    @pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.b.c.d.e", "é.é.é", "." * 5000, "a" * 200_000])
    def test_a_token_that_is_none(self, forger, provider, token):
        forger.sign = lambda *_: token
        with pytest.raises((ProviderRefused, ProviderUnavailable)):
            log_in(provider, forger)

    @pytest.mark.parametrize(
        ("claims", "match"),
        [
            ({"iss": "https://evil.example"}, "of another provider"),
            ({"iss": None}, "lacks"),
            ({"aud": "another program"}, "for another program"),
            ({"aud": ["another program"]}, "for another program"),
            ({"aud": []}, "for another program"),
            ({"aud": None}, "lacks"),
            ({"aud": [CLIENT, "another program"]}, "for another program"),
            ({"aud": [CLIENT, "another program"], "azp": "another program"}, "for another program"),
            ({"azp": "another program"}, "for another program"),
            ({"nonce": "that of another login"}, "belongs to another login"),
            ({"nonce": None}, "lacks"),
            ({"exp": 1_500_000_000}, "has expired: compare the clocks"),
            ({"exp": float("nan")}, "has expired|exp|is not signed"),
            ({"exp": None}, "lacks"),
            ({"iat": 9_000_000_000}, "from the future: compare the clocks"),
            ({"iat": None}, "lacks"),
            ({"nbf": 9_000_000_000}, "from the future"),
            ({"sub": None}, "lacks"),
            ({"sub": ""}, "its sub is wrong"),
            ({"sub": "x" * 256}, "names nobody"),
            ({"sub": 7}, "its sub is wrong"),
        ],
    )
    def test_claims_that_are_not_good(self, forger, provider, claims, match):
        forger.claims = claims
        with pytest.raises(ProviderRefused, match=match):
            log_in(provider, forger)

    @pytest.mark.parametrize("azp", [None, CLIENT])
    def test_an_audience_in_a_list(self, forger, provider, azp):
        forger.claims = {"aud": [CLIENT, "more"] if azp else [CLIENT], "azp": azp}
        assert log_in(provider, forger).identity.subject == "4711"

    def test_a_clock_may_differ_a_little(self, forger, provider):
        now = int(clock.now().timestamp())
        forger.claims = {"iat": now + 30, "exp": now - 30}
        assert log_in(provider, forger)

    def test_an_elliptic_key(self, forger, provider):
        key = ECKey.generate_key("P-256", {"kid": "first"})
        forger.keys, forger.header = [key], {"alg": "ES256"}
        forger.sign = lambda header, claims: jwt.encode(header, claims, key)
        assert log_in(provider, forger)

    def test_a_shared_secret_among_the_keys_counts_for_nothing(self, forger, provider):
        secret = OctKey.import_key("0123456789abcdef0123456789abcdef", {"kid": "shared"})
        forger.keys, forger.header = [KEY, secret.as_dict(private=True)], {"alg": "HS256", "kid": "shared"}
        forger.sign = lambda header, claims: jwt.encode(header, claims, secret, algorithms=["HS256"])
        with pytest.raises(ProviderRefused, match="proves nothing"):
            log_in(provider, forger)

    def test_another_state(self, forger, provider):
        with pytest.raises(ProviderRefused, match="another login"):
            log_in(provider, forger, state="x")
        assert forger.asked_for("/token") == 0

    def test_the_answer_of_another_provider(self, forger, provider):
        """Mix-up (RFC 9207)."""
        with pytest.raises(ProviderRefused, match="another provider"):
            log_in(provider, forger, iss="https://evil.example")
        assert log_in(provider, forger, iss=forger.issuer)

    def test_a_provider_that_always_names_itself(self, forger, provider):
        forger.metadata = {"authorization_response_iss_parameter_supported": True}
        with pytest.raises(ProviderRefused, match="another provider"):
            log_in(provider, forger)

    def test_the_provider_refuses(self, forger, provider):
        with pytest.raises(ProviderRefused, match="Clinic login: it refused, or the login was cancelled"):
            log_in(provider, forger, error="access_denied", error_description="<b>call 555</b>")
        with pytest.raises(ProviderRefused, match="Clinic login: the login failed there") as told:
            log_in(provider, forger, error="call 555", code="a-code")
        assert "555" not in str(told.value)
        assert forger.asked_for("/token") == 0

    @pytest.mark.parametrize(
        ("body", "match"),
        [
            (b'{"error": "invalid_grant", "error_description": "secret"}', "took too long"),
            (b'{"error": "invalid_client"}', "check client_id and client_secret_file"),
            (b'{"error": 7}', "the login failed there"),
            (b"[" * 100_000, "the login failed there"),
        ],
    )
    def test_a_code_that_is_not_taken(self, forger, provider, body, match):
        forger.answers["/token"] = (400, body)
        with pytest.raises(ProviderRefused, match=match) as told:
            log_in(provider, forger)
        assert "secret " not in str(told.value)

    def test_no_code(self, forger, provider):
        for code in ("", "x" * 5000):
            with pytest.raises(ProviderRefused, match="sent no code"):
                log_in(provider, forger, code=code)


class TestBearer:
    """Tokens that a device brings along."""

    def test_whom_an_access_token_is_for(self, forger, provider):
        forger.header = {"typ": "at+jwt"}
        forger.claims = {
            "nonce": None,
            "azp": "the viewer",
            "aud": ["the viewer", CLIENT],
            "preferred_username": "anna",
            "groups": ["radiology"],
        }
        person = provider.bearer(forger.id_token())
        assert (person.identity.subject, person.names, person.groups) == ("4711", ("anna",), {"radiology"})
        assert [path for path, _, _ in forger.requests] == ["/.well-known/openid-configuration", "/keys"]
        provider.bearer(forger.id_token())
        assert forger.asked_for("/keys") == 1

    @pytest.mark.parametrize(
        "sign", [unsigned, with_public_key_as_secret, by_another_key, changed_after_signing, with_its_own_key]
    )
    def test_a_signature_that_is_none(self, forger, provider, sign):
        forger.sign = sign
        with pytest.raises(ProviderRefused, match=r"is not signed by the provider|proves nothing"):
            provider.bearer(forger.id_token())

    @pytest.mark.parametrize(
        ("claims", "match"),
        [
            ({"iss": "https://evil.example"}, "of another provider"),
            ({"aud": ["the viewer"]}, "for another program"),
            ({"exp": 1_500_000_000}, "has expired"),
            ({"nbf": 9_000_000_000}, "from the future"),
            ({"exp": None}, "lacks"),
            ({"sub": None}, "lacks"),
            ({"events": EVENT}, "is none of a user"),
        ],
    )
    def test_claims_that_are_not_good(self, forger, provider, claims, match):
        forger.claims = claims
        with pytest.raises(ProviderRefused, match=match):
            provider.bearer(forger.id_token())


class TestClaims:
    def test_groups_below_another_claim(self, forger):
        forger.claims = {"realm_access": {"roles": ["radiology"]}}
        provider = OpenIDProvider(forger.registration(groups_claim="realm_access.roles"))
        assert log_in(provider, forger).groups == {"radiology"}

    def test_a_claim_whose_name_has_dots(self, forger):
        forger.claims = {"https://clinic.example/roles": "radiology"}
        provider = OpenIDProvider(forger.registration(groups_claim="https://clinic.example/roles"))
        assert log_in(provider, forger).groups == {"radiology"}

    @pytest.mark.parametrize("verified", [None, False, "true", 1])
    def test_an_address_that_nobody_has_verified_is_none(self, forger, provider, verified):
        forger.claims = {"email": "anna@clinic.example", "email_verified": verified}
        assert log_in(provider, forger).email == ""

    def test_what_the_token_lacks_comes_from_the_user_info(self, forger, provider):
        forger.user_info = {"sub": "4711", "groups": ["radiology"], "email": "a@b.example", "email_verified": True}
        forger.claims = {"email": "signed@b.example"}
        person = log_in(provider, forger)
        assert (person.groups, person.email) == ({"radiology"}, "signed@b.example")
        bearer = next(headers for path, headers, _ in forger.requests if path == "/me")["Authorization"]
        assert bearer == "Bearer an-access-token"

    def test_a_whole_token_needs_no_further_question(self, forger, provider):
        forger.user_info = {"sub": "4711"}
        forger.claims = {"groups": [], "email": "a@b.example", "preferred_username": "anna"}
        log_in(provider, forger)
        assert forger.asked_for("/me") == 0

    def test_the_user_info_of_somebody_else(self, forger, provider):
        forger.user_info = {"sub": "1", "groups": ["administrators"]}
        with pytest.raises(ProviderRefused, match="another user"):
            log_in(provider, forger)

    @pytest.mark.parametrize(
        ("claims", "used"),
        [({"amr": ["pwd", "mfa"]}, True), ({"amr": "mfa"}, False), ({"acr": "gold"}, True), ({"acr": "1"}, False)],
    )
    def test_a_second_factor(self, forger, claims, used):
        forger.claims = claims
        provider = OpenIDProvider(forger.registration(second_factor_acr=("gold",)))
        assert log_in(provider, forger).used_second_factor is used


class TestKeys:
    def test_they_are_fetched_once_and_again_when_a_new_one_is_named(self, forger, provider):
        for _ in range(3):
            log_in(provider, forger)
        assert forger.asked_for("/keys") == 1
        forger.keys, forger.header, forger.sign = [KEY, OTHER_KEY], {"kid": "second"}, by_another_key
        log_in(provider, forger)
        assert forger.asked_for("/keys") == 2

    def test_names_that_nobody_has_do_not_use_the_provider_up(self, forger):
        watch = Watch()
        provider = OpenIDProvider(forger.registration(), watch)
        log_in(provider, forger)
        forger.header = {"kid": "invented"}
        for at, fetched in ((1, 2), (2, 2), (30, 2), (31.5, 3), (90, 3), (92, 4)):
            watch.now = at
            with pytest.raises(ProviderRefused, match="a key that the provider does not have"):
                log_in(provider, forger)
            assert forger.asked_for("/keys") == fetched, at
        forger.header = {}
        log_in(provider, forger)

    def test_a_key_that_was_withdrawn_counts_for_an_hour_at_most(self, forger):
        watch = Watch()
        provider = OpenIDProvider(forger.registration(), watch)
        log_in(provider, forger)
        forger.keys, watch.now = [OTHER_KEY], 3601
        with pytest.raises(ProviderRefused, match="a key that the provider does not have"):
            log_in(provider, forger)

    def test_a_token_without_a_name_of_its_key(self, forger, provider):
        forger.header = {"kid": None}
        assert log_in(provider, forger)
        forger.keys = [KEY, OTHER_KEY]
        with pytest.raises(ProviderRefused):
            log_in(OpenIDProvider(forger.registration()), forger)

    def test_keys_that_we_do_not_know(self, forger, provider):
        forger.keys = [{"kty": "new"}, {"kty": "RSA", "kid": "first", "n": 7}, {"kid": "x"}, {"use": "enc"}, KEY]
        assert log_in(provider, forger)

    @pytest.mark.parametrize("body", [b"{}", b'{"keys": 7}', b'{"keys": [7]}'])
    def test_no_keys(self, forger, provider, body):
        forger.answers["/keys"] = (200, body)
        with pytest.raises(ProviderRefused, match="a key that the provider does not have"):
            log_in(provider, forger)


class TestLogout:
    def test_where_a_session_there_ends(self, forger, provider):
        assert provider.logout_address("https://pacs.example/login") == ""
        forger.metadata = {"end_session_endpoint": f"{forger.issuer}/end"}
        address = urlsplit(OpenIDProvider(forger.registration()).logout_address("https://pacs.example/login"))
        assert dict(parse_qsl(address.query)) == {
            "client_id": CLIENT,
            "post_logout_redirect_uri": "https://pacs.example/login",
        }

    def message(self, forger, **changed) -> str:
        forger.claims = {"nonce": None, "jti": "1", "events": EVENT} | changed
        return forger.id_token()

    def test_whose_session_has_ended(self, forger, provider):
        assert provider.ended(self.message(forger)) == FederatedIdentity(forger.issuer, "4711")

    @pytest.mark.parametrize(
        "changed",
        [{"events": None}, {"events": {}}, {"events": "x"}, {"nonce": "n"}, {"jti": None}, {"sub": None}, {"aud": "x"}],
    )
    def test_a_message_that_is_none(self, forger, provider, changed):
        with pytest.raises(ProviderRefused, match="The message of a logout"):
            provider.ended(self.message(forger, **changed))

    def test_an_id_token_is_no_such_message_nor_the_other_way_round(self, forger, provider):
        log_in(provider, forger)
        with pytest.raises(ProviderRefused):
            provider.ended(forger.id_token())
        forger.claims = {"events": EVENT, "jti": "1", "nonce": None}
        with pytest.raises(ProviderRefused):
            log_in(provider, forger)
