"""How the processes of a deployment are started: ports, settings, health."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.cli.launch import (
    Launch,
    build_launches,
    build_windows_launch,
    child_changes,
    gateway_port,
    open_health_session,
    usable_port,
)
from services.cli.run_file import local_url
from services.cli.terminal import CommandError
from services.config import Settings, environment_with


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def settings(**values: object) -> Settings:
    return Settings(_env_file=None).model_copy(update=values)


def test_a_port_that_was_asked_for_is_taken_or_refused(taken_port: int, free_port: int) -> None:
    assert gateway_port(settings(gateway_port=free_port)) == free_port
    with pytest.raises(CommandError, match=f"port {taken_port} .*PARSEWIRE_GATEWAY_PORT"):
        gateway_port(settings(gateway_port=taken_port))


def test_port_0_is_any_free_one() -> None:
    assert gateway_port(settings(gateway_port=0)) > 0


def test_a_taken_port_that_nobody_asked_for_is_replaced(taken_port: int, free_port: int) -> None:
    assert usable_port("127.0.0.1", free_port) == free_port
    other = usable_port("127.0.0.1", taken_port)
    assert other not in {0, taken_port}


async def test_workers_get_ports_of_their_own(free_port: int) -> None:
    async with open_health_session() as http:
        given = settings(gateway_port=0)
        urls = [launch.url for launch in build_launches(given, http, 2, {})]
        assert len(set(urls)) == 3
        given = settings(gateway_port=0, metrics_port=free_port)
        names = [launch.name for launch in build_launches(given, http, 2, {})]
        assert names == ["gateway", "worker-1", "worker-2"]
        assert build_launches(given, http, 1, {})[1].url == f"http://127.0.0.1:{free_port}"


async def test_the_first_worker_alone_shows_what_the_tables_hold() -> None:
    async with open_health_session() as http:
        launches = build_launches(settings(gateway_port=0), http, 3, {})
        commands = [list(launch.command()) for launch in launches]
    _gateway, first, *others = commands
    assert "--only" not in first
    all_but = "parse,callbacks,job_state,costs,alerts,intake,sweeper,janitor"
    for command in others:
        assert command[command.index("--only") + 1] == all_but


async def test_the_windows_get_the_port_that_was_asked_for_or_a_free_one(
    free_port: int, taken_port: int
) -> None:
    async with open_health_session() as http:
        for port in (free_port, taken_port, 0):
            launch = build_windows_launch(settings(windows_port=port), http, {})
            assert launch.name == "windows"
            assert (launch.url == f"http://127.0.0.1:{port}") is (port == free_port)


def test_children_share_the_data_directory_whatever_theirs_would_be() -> None:
    changes = child_changes(settings(data_dir=Path("here")))
    assert changes["data_dir"] == Path.cwd() / "here"
    assert environment_with(changes)["PARSEWIRE_DATA_DIR"] == str(Path.cwd() / "here")


def test_the_embedded_broker_gets_its_own_session_time_out_unless_one_was_asked_for() -> None:
    name = "kafka_session_timeout_seconds"
    assert child_changes(settings())[name] == 6
    assert child_changes(settings(**{name: 20.0}))[name] == 20
    assert child_changes(settings(kafka_bootstrap_servers="kafka:9092"))[name] == 10


async def test_only_a_200_is_an_answer(free_port: int) -> None:
    async def well(_request: web.Request) -> web.Response:
        return web.Response()

    async def ill(_request: web.Request) -> web.Response:
        return web.Response(status=503)

    app = web.Application()
    app.add_routes([web.get("/health", well), web.get("/ready", ill)])
    async with TestServer(app) as server, open_health_session() as http:
        assert server.port is not None
        launch = Launch("gateway", "gateway", http, {}, host="127.0.0.1", port=server.port)
        assert await launch.member().answers()
        assert not await launch.answers("/ready")
        nobody = Launch("worker-1", "worker", http, {}, host="127.0.0.1", port=free_port)
        assert not await nobody.member().answers()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("host", "http://host:80"),
    ],
)
def test_a_listener_is_reached_by_its_host(host: str, url: str) -> None:
    assert local_url(host, 80) == url
