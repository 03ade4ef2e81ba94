"""Parse options over real HTTP: taken, shown, kept apart, and refused with what would be right."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from schemas.events import DocumentUploaded, ParseOptions
from streams.settings import Defaults, change_setting
from streams.token_bucket import Rate
from tests.gateway_bodies import form_of, nothing_left, refused
from tests.gateway_desk import UPLOAD, GatewayDesk, open_gateway

LLAMAPARSE = {"llamaparse": Rate(20.0, 10)}
HYBRID = Defaults(mode="hybrid", rates=LLAMAPARSE)
EVERYBODY = frozenset({"*"})


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path, defaults=HYBRID, tenant_modes=EVERYBODY) as opened:
        yield opened


@pytest_asyncio.fixture
async def plain(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    """A deployment as it comes: local, without a key, nobody chooses."""
    async with open_gateway(tmp_path) as opened:
        yield opened


EVERYTHING = {
    "max_pages": "9",
    "target_pages": " 4, 3-5,1",
    "mode": "real",
    "tier": "agentic",
    "languages": "en, ch_sim,en",
    "prompt": "  Keep the tables.\nDates as in ISO 8601. ",
    "disable_cache": "yes",
}
READ = ParseOptions(
    max_pages=9,
    tier="agentic",
    languages=("en", "ch_sim"),
    target_pages="1,3-5",
    prompt="Keep the tables.\nDates as in ISO 8601.",
    mode="real",
    disable_cache=True,
)


class TestTaken:
    @pytest.mark.parametrize("how", ["query", "form", "both"])
    async def test_every_option_goes_along(self, desk: GatewayDesk, how: str) -> None:
        if how == "query":
            answer = await desk.upload(query="?" + urlencode(EVERYTHING))
        elif how == "form":
            answer = await desk.post(UPLOAD, data=form_of(**EVERYTHING))
        else:
            fields = EVERYTHING.copy()
            mode = fields.pop("mode")
            answer = await desk.post(f"{UPLOAD}?mode={mode}", data=form_of(**fields))
        assert answer.status == 202, answer.content
        job_id = answer.json["job_id"]
        assert (await desk.job(job_id)).options == READ
        (offer,) = desk.said()
        assert isinstance(offer, DocumentUploaded)
        assert offer.options == READ
        assert (await desk.get(f"/api/v1/jobs/{job_id}")).json["options"] == {
            "max_pages": 9,
            "target_pages": "1,3-5",
            "mode": "real",
            "tier": "agentic",
            "languages": ["en", "ch_sim"],
            "prompt": "Keep the tables.\nDates as in ISO 8601.",
            "disable_cache": True,
        }

    async def test_only_what_was_asked_is_shown(self, desk: GatewayDesk) -> None:
        answer = await desk.upload(query="?target_pages=2&disable_cache=false")
        job = (await desk.get(f"/api/v1/jobs/{answer.json['job_id']}")).json
        assert job["options"] == {"target_pages": "2"}

    async def test_other_options_are_another_job(self, desk: GatewayDesk) -> None:
        queries = ["", "?tier=agentic", "?mode=local", "?target_pages=1-3", "?languages=en,de"]
        ids = [(await desk.upload(query=query)).json["job_id"] for query in queries]
        assert len(set(ids)) == 5
        again = await desk.upload(query="?target_pages=3,1,2,2")
        assert (again.status, again.json["job_id"]) == (200, ids[3])

    async def test_a_prompt_of_four_thousand_characters(self, desk: GatewayDesk) -> None:
        prompt = "é€𝄞\n" * 1_000
        answer = await desk.post(UPLOAD, data=form_of(prompt=prompt))
        assert answer.status == 202, answer.content
        options = (await desk.job(answer.json["job_id"])).options
        assert options.prompt == prompt.strip()

    @pytest.mark.parametrize("prompt", ["%FF", "a%00b", "%ED%A0%80", "%F4%90%80%80", "%E2%80%AE"])
    async def test_a_prompt_of_any_bytes_is_no_failure(
        self, desk: GatewayDesk, prompt: str
    ) -> None:
        answer = await desk.upload(query=f"?prompt={prompt}")
        assert answer.status in (202, 400), answer.content
        if answer.status == 202:
            shown = await desk.get(f"/api/v1/jobs/{answer.json['job_id']}")
            assert shown.status == 200
            assert shown.json["options"]["prompt"]


class TestWrong:
    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("mode", "cloud", "mode must be one of: local, real, hybrid, mock"),
            ("mode", "", "mode must be one of"),
            ("tier", "premium", "tier must be one of: fast, cost_effective, agentic, agentic_plus"),
            ("languages", "", "languages has ''; known are: abq, ady, af"),
            ("languages", "en,", "languages has ''"),
            ("languages", "en;de", "languages has 'en;de'"),
            ("languages", "EN", "languages has 'EN'"),
            ("languages", "en,de,fr,es,it,pt,nl,pl,cs,sk,sl", "languages may name 10 at most"),
            ("target_pages", "", "target_pages must be pages from 1 and ranges, as in 1,3-5"),
            ("target_pages", "0-3", "as in 1,3-5: '0-3' is neither"),
            ("target_pages", "5-3", "the range 5-3 runs backwards"),
            ("target_pages", ",".join(str(n) for n in range(1, 400, 2)), "500 characters at most"),
            ("prompt", "  ", "prompt must have 1 to 4000 characters"),
            ("prompt", "p" * 4001, "prompt must have 1 to 4000 characters"),
            ("disable_cache", "perhaps", "disable_cache must be true or false"),
        ],
    )
    async def test_values(self, desk: GatewayDesk, option: str, value: str, words: str) -> None:
        raw = await desk.upload(query="?" + urlencode({option: value}))
        assert words in refused(raw, 400, "invalid_request")["detail"]
        form = await desk.post(UPLOAD, data=form_of(**{option: value}))
        assert words in refused(form, 400, "invalid_request")["detail"]
        await nothing_left(desk)

    async def test_no_prompt_for_the_fast_tier(self, desk: GatewayDesk) -> None:
        answer = await desk.upload(query="?tier=fast&prompt=Tables")
        detail = refused(answer, 400, "invalid_request")["detail"]
        assert detail == "the tier fast takes no prompt: choose another tier, or leave it out"
        await nothing_left(desk)


class TestNotServed:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("tier", "agentic"),
            ("languages", "de"),
            ("prompt", "Tables only."),
            ("disable_cache", "true"),
        ],
    )
    async def test_what_only_llamaparse_does_where_there_is_none(
        self, plain: GatewayDesk, option: str, value: str
    ) -> None:
        words = (
            f"only LlamaParse can do what these ask: {option}; this job would be parsed in mode "
            "local: leave them out"
        )
        raw = await plain.upload(query="?" + urlencode({option: value}))
        assert refused(raw, 422, "option_not_served")["detail"] == words
        form = await plain.post(UPLOAD, data=form_of(**{option: value}))
        assert refused(form, 422, "option_not_served")["detail"] == words
        await nothing_left(plain)

    async def test_what_every_parser_does_is_taken(self, plain: GatewayDesk) -> None:
        query = "?target_pages=1-2&max_pages=3&disable_cache=no"
        assert (await plain.upload(query=query)).status == 202

    async def test_the_mode_of_this_moment_decides(self, desk: GatewayDesk) -> None:
        async def switch(mode: str | None) -> None:
            await desk.tables.write(lambda tx: change_setting(tx, HYBRID, "mode", mode, "test"))

        assert (await desk.upload(b"one", query="?tier=agentic")).status == 202
        await switch("local")
        answer = await desk.upload(b"two", query="?tier=agentic&prompt=Tables")
        assert refused(answer, 422, "option_not_served")["detail"] == (
            "only LlamaParse can do what these ask: tier, prompt; this job would be parsed in mode "
            "local: leave them out, or add mode=hybrid"
        )
        assert (await desk.upload(b"two", query="?tier=agentic&mode=hybrid")).status == 202
        await switch(None)
        assert (await desk.upload(b"three", query="?tier=agentic")).status == 202
        answer = await desk.upload(b"four", query="?tier=agentic&mode=local")
        refused(answer, 422, "option_not_served")

    async def test_a_form_may_say_its_mode_after_the_file(self, tmp_path: Path) -> None:
        local = Defaults(mode="local", rates=LLAMAPARSE)
        async with open_gateway(tmp_path, defaults=local, tenant_modes=EVERYBODY) as desk:
            form = form_of(tier="agentic", mode="real")
            assert (await desk.post(UPLOAD, data=form)).status == 202


class TestMode:
    @pytest.mark.parametrize(
        ("tenant_modes", "acme", "globex"),
        [
            (frozenset[str](), 403, 403),
            (frozenset({"acme"}), 202, 403),
            (frozenset({"*"}), 202, 202),
        ],
    )
    async def test_those_choose_who_may(
        self, tmp_path: Path, tenant_modes: frozenset[str], acme: int, globex: int
    ) -> None:
        async with open_gateway(tmp_path, defaults=HYBRID, tenant_modes=tenant_modes) as desk:
            for tenant, status in (("acme", acme), ("globex", globex)):
                raw = await desk.upload(query="?mode=local", tenant=tenant)
                form = await desk.post(UPLOAD, data=form_of(b"else", mode="local"), tenant=tenant)
                assert (raw.status, form.status) == (status, status)
                if status == 403:
                    assert refused(raw, 403, "forbidden")["detail"] == (
                        f"the tenant {tenant} may not choose a job's mode: leave it out, or ask "
                        "the operator (PARSEWIRE_TENANT_MODES)"
                    )

    @pytest.mark.parametrize(
        ("defaults", "mode", "words"),
        [
            (Defaults(production=True), "mock", "mode mock is refused in production"),
            (Defaults(), "real", "mode real needs a parser elsewhere, and none has a key"),
            (Defaults(mode="mock"), "hybrid", "mode hybrid needs a parser elsewhere"),
        ],
    )
    async def test_no_mode_that_the_deployment_has_not(
        self, tmp_path: Path, defaults: Defaults, mode: str, words: str
    ) -> None:
        changes: dict[str, Any] = {"defaults": defaults, "tenant_modes": EVERYBODY}
        async with open_gateway(tmp_path, **changes) as desk:
            answer = await desk.upload(query=f"?mode={mode}")
            assert words in refused(answer, 422, "option_not_served")["detail"]
            await nothing_left(desk)
            assert (await desk.upload(query="?mode=local")).status == 202
