"""The router: which parser serves, what stands in for it, and why, typed by hand."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry

from schemas.errors import Code, PermanentError
from schemas.events import Mode, ParseOptions
from streams.circuit import Circuit, Standing
from streams.health import Health
from streams.metrics import Recorder
from streams.parsers.base import (
    Document,
    LocalRoute,
    Parsed,
    Reason,
    RemoteRoute,
    Route,
    Routes,
    VendorJob,
)
from streams.parsers.router import Parsers, Router, route, trouble_of
from streams.token_bucket import TOKEN, Bucket, Rate

NOW = 1_800_000_000_000
PDF, TEXT, CSV, DOCX = "application/pdf", "text/plain", "text/csv", "application/docx"


class Local:
    version = "1"

    def __init__(self, name: str, *kinds: str) -> None:
        self.name, self.kinds = name, kinds

    def accepts(self, media_type: str) -> bool:
        return media_type in self.kinds

    async def parse(self, document: Document) -> Parsed:
        raise NotImplementedError


class Cloud(Local):
    submit_seconds = 1.0

    def tier(self, options: ParseOptions) -> str | None:
        raise NotImplementedError

    async def upload(self, document: Document) -> str:
        raise NotImplementedError

    async def submit(self, document: Document, file_id: str) -> VendorJob:
        raise NotImplementedError

    async def look(self, vendor_job_ids: Sequence[str]) -> Mapping[str, VendorJob]:
        raise NotImplementedError

    async def see(self, vendor_job_id: str) -> VendorJob | None:
        raise NotImplementedError

    async def find(self, job_id: str, attempt: int, since: datetime) -> VendorJob | None:
        raise NotImplementedError

    async def fetch(self, vendor_job_id: str) -> Parsed:
        raise NotImplementedError

    async def cancel(self, vendor_job_id: str) -> None:
        raise NotImplementedError

    async def forget(self, vendor_job_id: str) -> None:
        raise NotImplementedError


LITE, PLAIN, MOCK = Local("lite", PDF), Local("text", TEXT, CSV), Local("mock", PDF, TEXT, CSV)
CLOUD = Cloud("cloud", PDF, TEXT, DOCX)
ALL = Parsers([LITE, PLAIN], CLOUD, MOCK)
NO_CLOUD = Parsers([LITE, PLAIN])


def shown(found: Route) -> tuple[str, str | None, str]:
    fallback = found.fallback.name if isinstance(found, RemoteRoute) and found.fallback else None
    return found.parser.name, fallback, found.reason.value


@pytest.mark.parametrize(
    ("mode", "kind", "trouble", "scanned", "expected"),
    [
        ("local", PDF, None, False, ("lite", None, "mode")),
        ("local", PDF, Reason.CIRCUIT_OPEN, False, ("lite", None, "mode")),
        ("local", PDF, None, True, ("lite", None, "mode")),
        ("local", TEXT, None, False, ("text", None, "mode")),
        ("real", PDF, None, False, ("cloud", None, "mode")),
        ("real", PDF, Reason.CIRCUIT_OPEN, False, ("cloud", None, "mode")),
        ("real", PDF, Reason.RATE_SPENT, True, ("cloud", None, "mode")),
        ("real", DOCX, None, False, ("cloud", None, "mode")),
        ("real", TEXT, None, False, ("text", None, "plain_text")),
        ("real", CSV, None, False, ("text", None, "plain_text")),
        ("hybrid", PDF, None, False, ("cloud", "lite", "preferred")),
        ("hybrid", PDF, Reason.CIRCUIT_OPEN, False, ("lite", None, "circuit_open")),
        ("hybrid", PDF, Reason.RATE_SPENT, False, ("lite", None, "rate_spent")),
        ("hybrid", PDF, None, True, ("cloud", None, "scan")),
        ("hybrid", PDF, Reason.CIRCUIT_OPEN, True, ("cloud", None, "scan")),
        ("hybrid", DOCX, None, False, ("cloud", None, "only_one")),
        ("hybrid", DOCX, Reason.CIRCUIT_OPEN, False, ("cloud", None, "only_one")),
        ("hybrid", TEXT, None, False, ("text", None, "plain_text")),
        ("mock", PDF, None, False, ("mock", None, "mode")),
        ("mock", TEXT, Reason.CIRCUIT_OPEN, True, ("mock", None, "mode")),
    ],
)
def test_the_rules(
    mode: Mode, kind: str, trouble: Reason | None, scanned: bool, expected: tuple[str, ...]
) -> None:
    assert shown(route(mode, kind, ALL, trouble=trouble, scanned=scanned)) == expected


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("local", DOCX, Code.UNSUPPORTED_MEDIA_TYPE),
        ("hybrid", DOCX, Code.UNSUPPORTED_MEDIA_TYPE),
        ("real", PDF, Code.INVALID_REQUEST),
        ("mock", PDF, Code.INVALID_REQUEST),
        ("hybrid", PDF, ("lite", None, "only_one")),
        ("real", TEXT, ("text", None, "plain_text")),
    ],
)
def test_the_rules_without_a_parser_elsewhere(
    mode: Mode, kind: str, expected: Code | tuple[str, ...]
) -> None:
    if isinstance(expected, Code):
        with pytest.raises(PermanentError) as caught:
            route(mode, kind, NO_CLOUD)
        assert caught.value.code is expected
    else:
        assert shown(route(mode, kind, NO_CLOUD)) == expected


def test_only_the_mock_mode_gives_the_mock() -> None:
    for mode in get_args(Mode):
        for trouble in (None, *Reason):
            for kind in (PDF, TEXT, CSV):
                found = route(mode, kind, ALL, trouble=trouble)
                names = {found.parser.name, shown(found)[1]}
                assert ("mock" in names) is (mode == "mock")


def health(circuit: Circuit, tokens: int = 5) -> Health:
    return Health(NOW, circuit, Bucket(tokens * TOKEN, NOW), Rate(20.0, 10))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, None),
        (health(Circuit()), None),
        (health(Circuit(Standing.OPEN, until_ms=NOW + 1, reason="x")), Reason.CIRCUIT_OPEN),
        (health(Circuit(Standing.OPEN, until_ms=None, reason="x")), Reason.CIRCUIT_OPEN),
        (health(Circuit(Standing.OPEN, until_ms=NOW, reason="x")), None),
        (health(Circuit(Standing.HALF_OPEN, until_ms=NOW + 9, reason="x")), Reason.CIRCUIT_OPEN),
        (health(Circuit(), tokens=0), None),
        (health(Circuit(), tokens=-1), Reason.RATE_SPENT),
    ],
)
def test_trouble_is_read_from_the_health(found: Health | None, expected: Reason | None) -> None:
    assert trouble_of(found) is expected


OPEN = health(Circuit(Standing.OPEN, until_ms=None, reason="x"))


class Room:
    """A router whose surroundings a test sets."""

    def __init__(self) -> None:
        self.mode: Mode = "hybrid"
        self.health: Health | None = None
        self.scanned = False
        self.looks = 0
        self.recorder = Recorder(CollectorRegistry())
        self.router: Routes = Router(
            [LITE, PLAIN],
            cloud=CLOUD,
            mock=MOCK,
            mode=lambda: self.mode,
            health=lambda: self.health,
            looks_scanned=self.look,
            recorder=self.recorder,
        )

    async def look(self, _document: Document) -> bool:
        self.looks += 1
        return self.scanned

    def routes(self, parser: str, reason: str) -> float | None:
        labels = {"parser": parser, "reason": reason}
        return self.recorder.registry.get_sample_value("parsewire_routes_total", labels)


def document(kind: str = PDF, mode: Mode | None = None) -> Document:
    options = ParseOptions(mode=mode)
    return Document("j", "acme", 1, Path("x"), "0" * 64, 1, kind, options)


async def test_a_jobs_own_mode_goes_first() -> None:
    room = Room()
    assert shown(await room.router.route(document())) == ("cloud", "lite", "preferred")
    assert shown(await room.router.route(document(mode="local"))) == ("lite", None, "mode")
    room.mode = "local"
    assert shown(await room.router.route(document(mode="real"))) == ("cloud", None, "mode")
    assert room.routes("cloud", "preferred") == 1


async def test_a_document_is_looked_at_only_where_the_local_parser_would_serve() -> None:
    room = Room()
    await room.router.route(document())
    await room.router.route(document(TEXT))
    assert room.looks == 0
    room.health = OPEN
    assert shown(await room.router.route(document())) == ("lite", None, "circuit_open")
    room.scanned = True
    assert shown(await room.router.route(document())) == ("cloud", None, "scan")
    assert room.looks == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.CIRCUIT_OPEN, "circuit_open"),
        (Code.VENDOR_RATE_LIMITED, "rate_spent"),
        (Code.VENDOR_QUOTA_SPENT, "quota_spent"),
        (Code.PARSER_UNAVAILABLE, "down"),
        (Code.DOCUMENT_TOO_LARGE, "too_large"),
    ],
)
async def test_hybrid_falls_back_after_a_failure_elsewhere(code: Code, reason: str) -> None:
    room = Room()
    first = await room.router.route(document())
    found = await room.router.fall_back(document(), first, code)
    assert found == LocalRoute(LITE, Reason(reason))
    assert room.routes("lite", reason) == 1


async def test_nothing_stands_in_for_a_scan_or_in_real_mode_or_after_our_own_trouble() -> None:
    room = Room()
    first = await room.router.route(document())
    assert await room.router.fall_back(document(), first, Code.SHUTDOWN) is None
    assert await room.router.fall_back(document(), first, Code.DOCUMENT_BROKEN) is None
    real = await room.router.route(document(mode="real"))
    assert await room.router.fall_back(document(), real, Code.CIRCUIT_OPEN) is None
    room.scanned = True
    assert await room.router.fall_back(document(), first, Code.CIRCUIT_OPEN) is None


async def test_an_attempt_that_failed_elsewhere_is_followed_by_a_local_one() -> None:
    room = Room()
    assert shown(await room.router.route(document(), "vendor_stuck")) == ("lite", None, "down")
    assert shown(await room.router.route(document(), "worker_lost")) == (
        "cloud",
        "lite",
        "preferred",
    )
    room.scanned = True
    assert shown(await room.router.route(document(), "vendor_stuck")) == ("cloud", None, "scan")
