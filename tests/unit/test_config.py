"""Configuration: what is right is taken, what is wrong is named."""

from pathlib import Path

import pytest

from services.config import ConfigError, Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_are_a_laptop() -> None:
    settings = load_settings()
    assert (settings.mode, settings.gateway_port) == ("local", 8080)
    assert settings.timings().lease_ms == 15_000


def test_a_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PARSEWIRE_MODE=mock\nPARSEWIRE_SLOTS=3\n")
    monkeypatch.setenv("PARSEWIRE_SLOTS", "5")
    settings = load_settings()
    assert (settings.mode, settings.slots) == ("mock", 5)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PARSEWIRE_MODE", "magic", "'local', 'real', 'hybrid' or 'mock'"),
        ("PARSEWIRE_GATEWAY_PORT", "99999", "less than or equal to 65535"),
        ("PARSEWIRE_SLOTS", "0", "greater than or equal to 1"),
        ("PARSEWIRE_TOPIC_PREFIX", "Über ", "use a-z, 0-9"),
        ("PARSEWIRE_FETCH_HOSTS", "a.example,*", "'*' is no host name: use 'docs.example.com'"),
        ("PARSEWIRE_TIME_ZONE", "Mars/Olympus", "no time zone 'Mars/Olympus' is known here"),
        ("PARSEWIRE_INTAKE", "documents.submitted", "topic:tenant|tenant"),
        ("PARSEWIRE_INTAKE", "jobs.events:*", "carries Parsewire's own events"),
        ("PARSEWIRE_DATA_DIR", "", "name a directory"),
        ("PARSEWIRE_LEASE_SECONDS", "inf", "a finite number"),
        ("PARSEWIRE_LEASE_SECONDS", "1.5", "at least twice PARSEWIRE_RENEW_SECONDS"),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_is_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert name in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PARSEWIRE_KAFKA_BOOTSTRAP_SERVER", "PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS"),
        ("PARSEWIRE_KAFKA_BOOTSTRAPSERVERS", "PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS"),
        ("PARSEWIRE_GATEWAY_PROT", "PARSEWIRE_GATEWAY_PORT"),
        ("PARSEWIRE_LLAMAPARSE_API_KEI", "PARSEWIRE_LLAMAPARSE_API_KEY"),
        ("parsewire_slot", "PARSEWIRE_SLOTS"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_one_that_it_means(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, meant: str
) -> None:
    said = f"{name.upper()} is no setting: {meant} may be meant"
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value) == said
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}=x\n")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "name",
    [
        "PARSEWIRE_WEBHOOK_SECRET",
        "PARSEWIRE_ACME_WEBHOOK_SECRET",
        "PARSEWIRE_CALLBACK_PARSER_SECRET_OLD",
        "PARSEWIRE_API_KEY_2",
        "PARSEWIRE_TEST_KAFKA",
    ],
)
def test_a_variable_of_somebodys_own_with_our_prefix_is_theirs(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "as the webhooks' file may name it")
    assert load_settings() == Settings()


EMPTY = [
    name
    for name, field in Settings.model_fields.items()
    if field.default is None or field.default == ""
]


@pytest.mark.parametrize("name", EMPTY)
def test_what_is_empty_by_default_may_be_said_to_be_empty(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PARSEWIRE_{name.upper()}", "")
    assert getattr(load_settings(), name) == Settings.model_fields[name].default


def test_every_wrong_value_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSEWIRE_MODE", "magic")
    monkeypatch.setenv("PARSEWIRE_SLOTS", "none")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert len(str(caught.value).splitlines()) == 2


def test_production_refuses_the_mock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSEWIRE_ENV", "production")
    monkeypatch.setenv("PARSEWIRE_MODE", "mock")
    with pytest.raises(ConfigError, match="use 'local'"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "tenants"),
    [("", frozenset()), ("*", {"*"}), ("acme", {"acme"}), (" acme, globex,", {"acme", "globex"})],
)
def test_tenants_that_may_choose_a_mode(
    text: str, tenants: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARSEWIRE_TENANT_MODES", text)
    assert load_settings().choosing_tenants() == tenants


@pytest.mark.parametrize("mode", ["real", "hybrid"])
def test_the_cloud_needs_a_key(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSEWIRE_MODE", mode)
    for key in (None, ""):
        if key is not None:
            monkeypatch.setenv("PARSEWIRE_LLAMAPARSE_API_KEY", key)
        with pytest.raises(ConfigError, match="needs PARSEWIRE_LLAMAPARSE_API_KEY"):
            load_settings()
    monkeypatch.setenv("PARSEWIRE_LLAMAPARSE_API_KEY", "llx-1")
    assert load_settings().mode == mode


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSEWIRE_API_KEY", "pw_secret")
    assert "pw_secret" not in repr(load_settings())
