"""Result links: what a token says, whose secret signs it, and when a JobMoved carries one."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.events import BlobRef, JobMoved, ParseStarted, ParseSucceeded
from schemas.result_link import Grant, LinkKeys
from services.config import ConfigError, Settings
from services.result_links import link_keys, link_of_moved, result_links
from streams.job_state import JobState
from tests.harness import NOW, TIMINGS, Desk, event_of, open_memory_desk

GRANT = Grant("01890000-0000-7000-8000-00000000000a", 3, "acme", 1_800_000_000)
# Written by openssl and base64.
TOKEN = (
    "WyI5ODk5NDYzZSIsIjAxODkwMDAwLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwYSIsMywiYWNtZSIs"
    "MTgwMDAwMDAwMF0.I1wLzqh3fEF3ySQxFWopsGOmTbyGQXXL3mGeDynJPog"
)
RESULT = BlobRef("acme/j/1/result", "b" * 64, 5)


def settings_of(folder: Path, seconds: int = 0, url: str = "") -> Settings:
    return Settings(data_dir=folder, result_link_seconds=seconds, public_url=url)


def test_a_token_is_what_any_other_tool_makes_of_the_secret() -> None:
    keys = LinkKeys(["the first secret"])
    assert keys.sign(GRANT) == TOKEN
    assert keys.read(TOKEN) == GRANT


@pytest.mark.parametrize(
    "said",
    [
        '["9899463e","j",3,"acme"]',
        '["9899463e","j","3","acme",1]',
        "{}",
        "null",
        "[" * 90,
        "\0",
        "",
    ],
)
def test_what_is_no_token_opens_nothing(said: str) -> None:
    payload = base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")
    assert LinkKeys(["the first secret"]).read(f"{payload}.{'A' * 43}") is None


def test_an_old_secret_counts_as_long_as_its_line_stands(tmp_path: Path) -> None:
    file = tmp_path / "result-link-secret"
    file.write_text("the-second-secret\nthe-first-secret-0\n")
    old = LinkKeys(["the-first-secret-0"]).sign(GRANT)
    both = link_keys(tmp_path)
    assert both.read(old) == GRANT
    assert both.sign(GRANT) == LinkKeys(["the-second-secret"]).sign(GRANT)
    file.write_text("the-second-secret\n")
    assert link_keys(tmp_path).read(old) is None


def test_a_line_cut_short_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "result-link-secret").write_text("the-second-secret\nabc\n")
    with pytest.raises(ConfigError, match=r"result-link-secret has a line of fewer than 16"):
        link_keys(tmp_path)


def test_processes_that_start_at_once_sign_alike(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda folder: link_keys(folder).sign(GRANT), [tmp_path] * 16))
    assert len(tokens) == 1
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_no_link_is_wanted_no_secret_is_made(tmp_path: Path) -> None:
    assert link_of_moved(settings_of(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["docs.example.com", "ftp://h", "https://", "https://u:p@h", "https://h?a=1", "https://h#a"],
)
def test_an_address_that_no_link_can_begin_with(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="http or https address"):
        settings_of(tmp_path, url=url)


async def moves_of(desk: Desk, fold: JobState) -> list[JobMoved]:
    job = (await desk.upload()).job
    desk.said()
    events = [
        event_of(ParseStarted(job.id, "acme", 1, "w")),
        event_of(ParseSucceeded(job.id, "acme", 1, RESULT, "liteparse", "2", 3)),
    ]
    await desk.tables.write(lambda tx: fold.apply(tx, events))
    return [event.body for event in desk.said() if isinstance(event.body, JobMoved)]


async def test_a_complete_jobs_move_says_all_that_a_consumer_wants(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, 600, "https://docs.example.com/")
    async with open_memory_desk() as desk:
        fold = JobState(TIMINGS, link=link_of_moved(settings))
        moves = await moves_of(desk, fold)
    assert [(m.to_state, m.result_url is None) for m in moves] == [
        ("parsing", True),
        ("parsed", True),
        ("complete", False),
    ]
    last = moves[-1]
    assert last.result == BlobRef("acme/j/1/result", "b" * 64, 5)
    assert (last.parser, last.pages, last.attempt) == ("liteparse", 3, 1)
    address, _, token = str(last.result_url).rpartition("/")
    assert address == "https://docs.example.com/api/v1/results"
    grant = result_links(settings).keys.read(token)
    assert grant == Grant(last.job_id, 1, "acme", NOW // 1000 + 600)


async def test_without_links_the_move_says_the_rest() -> None:
    async with open_memory_desk() as desk:
        *_, last = await moves_of(desk, JobState(TIMINGS))
    assert (last.to_state, last.parser, last.pages) == ("complete", "liteparse", 3)
    assert (last.result, last.result_url) == (BlobRef("acme/j/1/result", "b" * 64, 5), None)
