"""The verb `doctor`: what is wrong with this deployment, and what to do about it."""

import asyncio
import logging
from collections.abc import Sequence

import typer

from services.cli.job_verbs import Json
from services.cli.run_file import read_run_file
from services.cli.terminal import ERR, FAILED, print_json, print_table
from services.config import ConfigError, Settings, load_settings
from services.deployment_checks import Cluster, deployment_checks
from services.doctor import Finding, Level, examine, fail, healthy, ok
from services.llamaparse_checks import llamaparse_checks
from services.logs import configure_logs
from services.self_hosted import self_hosted_checks


def doctor(*, json: Json = False) -> None:
    """Look whether everything is there and right; change nothing. Exit code 1: something is not."""
    try:
        settings = load_settings()
    except ConfigError as error:
        findings = [fail("configuration", str(error), "Correct it; the README lists all of them.")]
    else:
        configure_logs(settings, process="doctor")
        # What clients log of a failure stands in the findings.
        logging.disable(logging.ERROR)
        mode = ok("configuration", f"readable; mode {settings.mode}, {settings.env}")
        findings = [mode, *asyncio.run(_examine(settings))]
    _print(findings, json=json)
    if not healthy(findings):
        raise typer.Exit(FAILED)


async def _examine(settings: Settings) -> Sequence[Finding]:
    checks = deployment_checks(settings, _cluster(settings)) + llamaparse_checks(settings)
    return await examine(checks + self_hosted_checks(settings))


def _cluster(settings: Settings) -> Cluster:
    """Tell the broker: the configured one, else the one of a deployment that runs here."""
    if settings.kafka_bootstrap_servers:
        return Cluster(settings.kafka_bootstrap_servers, settings.topic_prefix)
    running = read_run_file(settings.data_dir)
    if running is None:
        return Cluster("", settings.topic_prefix)
    return Cluster(running.bootstrap_servers, running.topic_prefix)


def _print(findings: Sequence[Finding], *, json: bool) -> None:
    if json:
        print_json({"ok": healthy(findings), "findings": findings})
        return
    columns = ("", "check", "found", "what to do")
    print_table(columns, ((f.level, f.name, f.what, f.advice) for f in findings))
    count = {level: sum(f.level is level for f in findings) for level in Level}
    ERR.print(f"{count[Level.OK]} well, {count[Level.WARN]} to look at, {count[Level.FAIL]} wrong")
