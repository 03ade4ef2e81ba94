"""The brokers that client verbs turn to: what was configured, or what `up` left."""

import logging

from schemas.errors import Code, TransientError
from services.cli.launch import EMBEDDED_SESSION_SECONDS
from services.cli.run_file import read_run_file
from services.config import PREFIX, Settings
from services.wiring import build_bus
from streams.bus.base import Bus


def find_bus(settings: Settings, client_id: str) -> Bus:
    """Make the bus of the deployment, where it is at the moment; nothing is connected yet.

    Raise TransientError(BUS_UNAVAILABLE) while there is none.
    """
    # Its dozens of lines about an outage say no more than the verb's own one.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if settings.kafka_bootstrap_servers:
        return build_bus(settings, client_id)
    running = read_run_file(settings.data_dir)
    if running is None or not running.bootstrap_servers:
        # Between two lives of its broker `up` has none, so that asking again may help.
        raise TransientError(
            Code.BUS_UNAVAILABLE,
            f"no broker: set {PREFIX}KAFKA_BOOTSTRAP_SERVERS, or start `parsewire up`, which "
            f"says in {settings.data_dir} where its own is",
        )
    found: dict[str, object] = {
        "kafka_bootstrap_servers": running.bootstrap_servers,
        "topic_prefix": running.topic_prefix,
    }
    if running.cluster == "embedded":
        found["kafka_session_timeout_seconds"] = EMBEDDED_SESSION_SECONDS
    return build_bus(settings.model_copy(update=found), client_id)
