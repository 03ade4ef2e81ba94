"""The command line's parse options: from `submit` to the job, and back by `job`."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import ParseOptions
from streams.settings import Defaults
from streams.token_bucket import Rate
from tests.gateway_desk import GatewayDesk, open_gateway
from tests.processes import environment_of, run_verb

HYBRID = Defaults(mode="hybrid", rates={"llamaparse": Rate(20.0, 10)})
OPTIONS = {
    "--max-pages": "9",
    "--pages": "3,1-2",
    "--mode": "real",
    "--tier": "agentic",
    "--languages": "en,de",
    "--prompt": "Keep the tables.",
}


async def said_by(desk: GatewayDesk, *arguments: str) -> tuple[int, str]:
    """Run the command line against the desk, and give its exit code and what it printed."""
    url = str(desk.url).rstrip("/")
    environment = environment_of({"gateway_url": url, "api_key": desk.tokens["acme"]})
    ended = await run_verb(*arguments, environment=environment, folder=desk.folder.parent)
    return ended.code, ended.printed.decode()


async def submitted(desk: GatewayDesk, *arguments: str) -> tuple[int, dict[str, Any]]:
    file = desk.folder.parent / "letter.txt"
    file.write_text("Dear harbour master")
    code, out = await said_by(desk, "submit", str(file), "--json", *arguments)
    (found,) = json.loads(out)["submissions"]
    return code, found


async def test_every_option_reaches_the_job(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, defaults=HYBRID, tenant_modes=frozenset({"acme"})) as desk:
        arguments = [word for pair in OPTIONS.items() for word in pair]
        code, found = await submitted(desk, *arguments, "--disable-cache")
        assert (code, found["error"]) == (0, None)
        assert (await desk.job(found["job_id"])).options == ParseOptions(
            max_pages=9,
            tier="agentic",
            languages=("en", "de"),
            target_pages="1-3",
            prompt="Keep the tables.",
            mode="real",
            disable_cache=True,
        )
        code, out = await said_by(desk, "job", found["job_id"])
        assert code == 0
        assert "option       tier: agentic\n" in out
        assert "option       target_pages: 1-3\n" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode", "real"], "the tenant acme may not choose a job's mode"),
        (["--prompt", "Tables"], "only LlamaParse can do what these ask: prompt"),
        (["--pages", "3-1"], "the range 3-1 runs backwards"),
    ],
)
async def test_a_refusal_is_said_beside_the_file(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    async with open_gateway(tmp_path) as desk:
        code, found = await submitted(desk, *arguments)
    assert code == 1
    assert words in found["error"]
