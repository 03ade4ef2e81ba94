"""Webhook sources: what the file may say, whose secrets count when, what an event is called."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.ids import derived_id
from schemas.signature_scheme import LC_SIGNATURE, STANDARD_WEBHOOKS, X_WEBHOOK_SIGNATURE, Scheme
from schemas.signatures import Headers, Refusal, sign
from schemas.webhook_source import ARTIFACTS, LLAMAPARSE, Credential, Source, read_json
from services.config import ConfigError, Settings
from services.webhook_secret import deployment_secret
from services.webhook_sources import load_sources, registered_secret

DECEMBER = 1_796_083_200
"""2026-12-01T00:00:00Z."""


def settings_of(folder: Path, text: str | None = None) -> Settings:
    values: dict[str, Any] = {"data_dir": folder / "data"}
    if text is not None:
        values["webhook_file"] = folder / "webhooks.toml"
        values["webhook_file"].write_text(text)
    return Settings(**values)


def signed(scheme: Scheme, secret: str, body: bytes, at: int = DECEMBER) -> Headers:
    given = sign(scheme, scheme.key_of(secret), body, event_id="msg_1", unix_seconds=at)
    return [(name.lower(), value.encode()) for name, value in given]


def outcome(source: Source, scheme: Scheme, secret: str, at: float = DECEMBER) -> str:
    """Give the label of the secret that signed, or the refusal."""
    found = source.verify(signed(scheme, secret, b"{}", int(at)), b"{}", at)
    return found.label if isinstance(found, Credential) else found.value


def test_without_a_file_llamaparse_has_the_deployments_secret(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    sources = load_sources(settings)
    assert set(sources) == {"llamaparse", "artifacts"}
    own = (tmp_path / "data" / "webhook-secret").read_text().strip()
    assert registered_secret(settings) == own
    for scheme in (LC_SIGNATURE, X_WEBHOOK_SIGNATURE):
        assert outcome(sources["llamaparse"], scheme, own) == "the deployment's own secret"
    assert outcome(sources["artifacts"], X_WEBHOOK_SIGNATURE, own) == "unconfigured"


def test_processes_that_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(deployment_secret, [folder] * 16))) == 1
        (path,) = folder.iterdir()
        assert path.name == "webhook-secret"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(deployment_secret(folder)) == 43


def test_a_secret_cut_short_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "webhook-secret").write_text("abc\n")
    with pytest.raises(ConfigError, match=r"webhook-secret is cut short: remove it"):
        deployment_secret(tmp_path)


def test_an_old_secret_counts_until_it_expires(tmp_path: Path) -> None:
    text = """
        [sources.llamaparse]
        secrets = [
            {secret = "the new secret"},
            {secret = "the old secret", expires = "2026-12-01T00:00:00Z"},
            {secret = "older than that", expires = 2026-11-01T00:00:00+00:00},
        ]
    """
    settings = settings_of(tmp_path, text)
    source = load_sources(settings)["llamaparse"]
    assert registered_secret(settings) == "the new secret"
    assert not (tmp_path / "data").exists()
    for at, wanted in ((DECEMBER - 0.001, "secret 2"), (DECEMBER, "mismatch")):
        assert outcome(source, LC_SIGNATURE, "the old secret", at) == wanted
        assert outcome(source, LC_SIGNATURE, "the new secret", at) == "secret 1"
        assert outcome(source, LC_SIGNATURE, "older than that", at) == "mismatch"


def test_when_every_secret_has_expired_nothing_is_taken(tmp_path: Path) -> None:
    text = """
        [sources.artifacts]
        secrets = [{secret = "the old secret", expires = 2026-12-01T00:00:00Z}]
    """
    source = load_sources(settings_of(tmp_path, text))["artifacts"]
    assert outcome(source, X_WEBHOOK_SIGNATURE, "the old secret", DECEMBER - 1) == "secret 1"
    assert outcome(source, X_WEBHOOK_SIGNATURE, "the old secret", DECEMBER) == "unconfigured"


def test_secrets_stand_in_files_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artifacts.key").write_text("from a file\n")
    monkeypatch.setenv("ARTIFACTS_SECRET", "from a variable")
    text = """
        [sources.artifacts]
        secrets = [{file = "artifacts.key"}, {env = "ARTIFACTS_SECRET"}]
    """
    source = load_sources(settings_of(tmp_path, text))["artifacts"]
    assert outcome(source, X_WEBHOOK_SIGNATURE, "from a file") == "secret 1"
    assert outcome(source, X_WEBHOOK_SIGNATURE, "from a variable") == "secret 2"
    assert "from a" not in repr(source)


def test_a_source_is_a_few_lines(tmp_path: Path) -> None:
    text = """
        [sources.github]
        header = "X-Hub-Signature-256"
        prefix = "sha256="
        id_header = "X-GitHub-Delivery"
        subject_field = "workflow_job.id"
        secrets = [{secret = "github's secret"}]

        [sources.svix]
        scheme = "standard-webhooks"
        header = "svix-signature"
        id_header = "svix-id"
        timestamp_header = "svix-timestamp"
        secrets = [{secret = "whsec_AAECAwQFBgc="}]

        [sources.stripe]
        header = "Stripe-Signature"
        prefix = "v1="
        template = "{timestamp}.{body}"
        separator = ","
        timestamp_prefix = "t="
        tolerance_seconds = 60
        id_field = "id"
        content_types = ["application/json", "text/plain"]
        secrets = [{secret = "stripe's secret"}]
    """
    sources = load_sources(settings_of(tmp_path, text))
    github, svix, stripe = (sources[name] for name in ("github", "svix", "stripe"))
    body = b'{"id":"evt_1","workflow_job":{"id":77}}'
    for source, secret, wanted in (
        (github, "github's secret", "delivery-1"),
        (svix, "whsec_AAECAwQFBgc=", "msg_1"),
        (stripe, "stripe's secret", "evt_1"),
    ):
        (scheme,) = source.schemes
        headers = [*signed(scheme, secret, body), ("x-github-delivery", b"delivery-1")]
        assert isinstance(source.verify(headers, body, DECEMBER), Credential)
        event_id, subject = source.event_of(scheme, headers, body)
        assert event_id == derived_id("webhook", source.name, wanted)
        assert subject == ("77" if source is github else event_id)
    assert svix.schemes[0].headers() == {"svix-signature", "svix-id", "svix-timestamp"}
    assert stripe.takes("text/plain; charset=utf-8")
    assert not github.takes("text/plain")


GOOD = 'secrets = [{secret = "long enough"}]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sources", "webhooks.toml is no TOML"),
        ("[source.x]", "webhooks.toml: source: Extra inputs are not permitted"),
        ("[sources.x]\nheader = 7", "sources.x.header: Input should be a valid string"),
        ("[sources.x]\nsecret = 'x'", "sources.x.secret: Extra inputs are not permitted"),
        ("[sources.x]\n" + GOOD, "sources.x: it needs a scheme"),
        ("[sources.X]\nheader='h'", "sources.X: a name is"),
        ("[sources.health]\nheader='h'", "sources.health: a name is"),
        ("[sources.x]\nscheme='md5'", "sources.x: there is no scheme 'md5': lc-signature"),
        ("[sources.x]\nheader='a b'", "sources.x: 'a b' is no header's name"),
        ("[sources.x]\nheader='h'\nencoding='rot13'", "sources.x.encoding: Input should be 'hex'"),
        ("[sources.x]\nheader='h'\ntemplate='{id}'", "sources.x: template '{id}'"),
        ("[sources.x]\nheader='h'\ntimestamp_header='t'", "sources.x: {timestamp} in the template"),
        ("[sources.x]\nheader='h'\nsecrets=[{}]", "secret 1: it needs exactly one of"),
        (
            "[sources.x]\nheader='h'\nsecrets=[{secret='long enough', env='X'}]",
            "secret 1: it needs exactly one of",
        ),
        ("[sources.x]\nheader='h'\nsecrets=[{secret='short'}]", "secret 1: it is shorter than 8"),
        ("[sources.x]\nheader='h'\nsecrets=[{env='NOT_SET_AT_ALL'}]", "variable NOT_SET_AT_ALL is"),
        ("[sources.x]\nheader='h'\nsecrets=[{file='none'}]", "none: No such file"),
        (
            "[sources.x]\nscheme='standard-webhooks'\nsecrets=[{secret='whsec_no-base64'}]",
            "sources.x: the secret is not base64",
        ),
        (
            "[sources.x]\nheader='h'\nsecrets=[{secret='long enough', expires=2026-12-01}]",
            "sources.x.secrets.0.expires: Input should",
        ),
        ("[sources.x]\nheader='h'\ncontent_types=[]", "sources.x.content_types:"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sources(settings_of(tmp_path, text))
    assert message in str(caught.value)
    assert "long enough" not in str(caught.value)
    assert "whsec_no" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    settings = Settings(webhook_file=tmp_path / "none.toml", data_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"PARSEWIRE_WEBHOOK_FILE=.*none.toml: No such file"):
        load_sources(settings)


def envelope(**fields: Any) -> bytes:
    return orjson.dumps({"event_id": "e1", "data": {"id": "pjb-1", "job_id": "pjb-2"}} | fields)


@pytest.mark.parametrize(
    ("body", "vendor_id", "subject"),
    [
        (envelope(), "e1", "pjb-2"),
        (orjson.dumps(envelope().decode()), "e1", "pjb-2"),
        (envelope(data={"id": "pjb-1"}), "e1", "pjb-1"),
        (envelope(data={"job_id": "", "id": 7}), "e1", "7"),
        (envelope(data={"job_id": "x" * 201, "id": True}), "e1", None),
        (envelope(data=[1]), "e1", None),
        (envelope(event_id=None), "from the header", "pjb-2"),
        (envelope(event_id={"a": 1}), "from the header", "pjb-2"),
        (b"[]", "from the header", None),
        (b"no json", "from the header", None),
        (b"\xff", "from the header", None),
        (b"[" * 5000, "from the header", None),
        (b'"\\ud800"', "from the header", None),
        (b"", "from the header", None),
    ],
)
def test_what_an_event_is_called(body: bytes, vendor_id: str, subject: str | None) -> None:
    headers = [("x-webhook-event-id", b"from the header")]
    event_id = derived_id("webhook", "llamaparse", vendor_id)
    found = LLAMAPARSE.event_of(LC_SIGNATURE, headers, body)
    assert found == (event_id, subject or event_id)


def test_an_event_without_any_id_is_called_by_its_body() -> None:
    first, _ = ARTIFACTS.event_of(X_WEBHOOK_SIGNATURE, [], b'{"job_id":"j1"}')
    again, subject = ARTIFACTS.event_of(X_WEBHOOK_SIGNATURE, [], b'{"job_id":"j1"}')
    other, _ = ARTIFACTS.event_of(X_WEBHOOK_SIGNATURE, [], b'{"job_id":"j2"}')
    assert first == again != other
    assert subject == "j1"


def test_a_signed_id_goes_before_the_body() -> None:
    source = Source("x", (STANDARD_WEBHOOKS,))
    headers = [("webhook-id", b"msg_1"), ("x-webhook-event-id", b"changed")]
    event_id, _ = source.event_of(STANDARD_WEBHOOKS, headers, envelope())
    assert event_id == derived_id("webhook", "x", "msg_1")


def test_json_is_read_in_both_formats() -> None:
    assert read_json(b'{"a":1}') == {"a": 1}
    assert read_json(b'"{\\"a\\":1}"') == {"a": 1}
    assert read_json(b'"text"') is None
    assert read_json(b"nope") is None


def test_the_headers_kept_are_the_telling_ones_and_bounded() -> None:
    raw = [
        (b"Host", b"x"),
        (b"Authorization", b"Bearer secret"),
        (b"User-Agent", b"llamaindex-webhook-service/1.0"),
        (b"Content-Type", b"application/json"),
        (b"X-Webhook-Event-Type", b"parse.success"),
        (b"LC-Signature", b"sha256=\xff"),
    ]
    assert LLAMAPARSE.kept(raw) == (
        ("user-agent", b"llamaindex-webhook-service/1.0"),
        ("content-type", b"application/json"),
        ("x-webhook-event-type", b"parse.success"),
        ("lc-signature", b"sha256=\xff"),
    )
    many = [(b"X-Webhook-%d" % number, b"x" * 8000) for number in range(100)]
    kept = LLAMAPARSE.kept([*many, *raw])
    # Where some must go, what proves the webhook stays.
    assert kept[0] == ("lc-signature", b"sha256=\xff")
    assert sum(len(name) + len(value) for name, value in kept) <= 40_960


def test_the_most_telling_refusal_is_given() -> None:
    def of(text: str) -> Refusal | Credential:
        credentials = [Credential("s", scheme, b"key") for scheme in LLAMAPARSE.schemes]
        source = Source("x", LLAMAPARSE.schemes, tuple(credentials))
        return source.verify([(text, b"00")] if text else [], b"", 0)

    assert of("") is Refusal.NO_SIGNATURE
    assert of("lc-signature") is Refusal.MISMATCH
    assert of("x-webhook-signature") is Refusal.MISMATCH


def test_the_folder_is_private(tmp_path: Path) -> None:
    deployment_secret(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
