"""The HTTP server's own log, without the bytes that a stranger sent."""

import logging

from aiohttp.http_exceptions import HttpProcessingError


def server_log() -> logging.Logger:
    """Give the logger for aiohttp's server."""
    logger = logging.getLogger(__name__)
    logger.addFilter(_without_request)
    return logger


def _without_request(record: logging.LogRecord) -> bool:
    """Make one quiet line of a request that is not HTTP: its trace quotes headers, keys too."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg = f"not HTTP, answered 400: {type(error).__name__}"
        record.args = None
        record.exc_info = None
        record.exc_text = None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True
