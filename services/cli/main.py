"""The command line: every verb, and how a failure ends."""

import sys

import typer

from schemas.errors import ParsewireError
from services.child import EXIT_CONFIG, WrongConfigurationError
from services.cli import (
    budget_verbs,
    cost_verbs,
    demo,
    doctor_verb,
    job_verbs,
    process_verbs,
    service_verbs,
    submit,
    table_verbs,
    up,
    watch,
    webhook_verbs,
)
from services.cli.client import GatewayError
from services.cli.terminal import FAILED, CommandError, say
from services.config import ConfigError, load_settings
from services.logs import configure_logs

APP = typer.Typer(
    name="parsewire",
    help="Documents in over HTTP, across Kafka, parsed text out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@APP.callback()
def _quiet(context: typer.Context) -> None:
    """Documents in over HTTP, across Kafka, parsed text out."""
    if context.invoked_subcommand == "doctor":
        # It says itself what is wrong with the configuration.
        return
    settings = load_settings()
    if "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "WARNING"})
    configure_logs(settings, process="cli")


for _verb in (
    *(up.up, demo.demo, process_verbs.gateway, process_verbs.worker, process_verbs.windows),
    *(submit.submit, job_verbs.jobs, job_verbs.job, job_verbs.result, watch.watch),
    doctor_verb.doctor,
):
    APP.command()(_verb)
APP.add_typer(table_verbs.KEYS, name="keys")
APP.add_typer(webhook_verbs.WEBHOOK, name="webhook")
APP.add_typer(table_verbs.DEAD_LETTERS, name="dead-letters")
APP.add_typer(table_verbs.PROCESSORS_APP, name="processors")
APP.add_typer(service_verbs.SERVICES, name="services")
APP.add_typer(cost_verbs.COSTS, name="costs")
APP.add_typer(budget_verbs.BUDGETS, name="budgets")


def main() -> None:
    """Run the verb that the arguments name, and exit with its code."""
    try:
        APP()
    except (ConfigError, WrongConfigurationError) as error:
        say(str(error))
        sys.exit(EXIT_CONFIG)
    except CommandError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except ParsewireError as error:
        say(f"{error.message} ({error.code})")
        sys.exit(FAILED)
    except GatewayError as error:
        say(str(error))
        sys.exit(FAILED)
    except OSError as error:
        # A folder that cannot be written, a full disk: a traceback would say it no better.
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
