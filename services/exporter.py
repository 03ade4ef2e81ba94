"""The exporter: one process's metrics over HTTP, from a thread that a busy loop does not stop."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import start_http_server

from streams.metrics import Recorder

log = structlog.get_logger(__name__)


@contextmanager
def serve_metrics(recorder: Recorder, host: str, port: int) -> Iterator[int]:
    """Serve `/metrics` on the port, or on any free one for 0; give the port."""
    server, thread = start_http_server(port, host, registry=recorder.registry)
    bound = int(server.server_address[1])
    log.info("metrics_served", host=host, port=bound)
    try:
        yield bound
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
