"""Job rows: a job as the tables hold it, read and written."""

from typing import Any

import msgspec
import orjson

from schemas.events import BlobRef, ParseOptions
from schemas.job import Job, State
from streams.tables.base import Row


def options_text(options: ParseOptions) -> str:
    """Write the options in the one form that makes equal options equal: sorted, defaults out."""
    return orjson.dumps(given_options(options), option=orjson.OPT_SORT_KEYS).decode()


def given_options(options: ParseOptions) -> dict[str, Any]:
    """Give the options that differ from their defaults."""
    values = msgspec.to_builtins(options)
    return {name: value for name, value in values.items() if value != _DEFAULTS[name]}


def from_row(row: Row) -> Job:
    """Read a row of `jobs`."""
    result = None
    if row["result_blob"] is not None:
        result = BlobRef(row["result_blob"], row["result_sha256"], row["result_bytes"])
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        document_id=row["document_id"],
        options=_options(row["options"]),
        generation=row["generation"],
        state=_STATES[row["state"]],
        attempt=row["attempt"],
        tries=row["tries"],
        losses=row["losses"],
        name=row["name"],
        media_type=row["media_type"],
        source=BlobRef(row["source_blob"], row["source_sha256"], row["source_bytes"]),
        created_ms=row["created_ms"],
        updated_ms=row["updated_ms"],
        parser=row["parser"],
        parser_version=row["parser_version"],
        vendor_job_id=row["vendor_job_id"],
        result=result,
        pages=row["pages"],
        warnings=() if row["warnings"] == "[]" else tuple(orjson.loads(row["warnings"])),
        error_code=row["error_code"],
        error_message=row["error_message"],
        traceparent=row["traceparent"],
        reference=row["reference"],
    )


def moved_values(before: Job, after: Job) -> dict[str, Any]:
    """Write what a move changes, with the state and attempt that it expects."""
    result = after.result
    return {
        "id": after.id,
        "state": str(after.state),
        "attempt": after.attempt,
        "state_before": str(before.state),
        "attempt_before": before.attempt,
        "tries": after.tries,
        "losses": after.losses,
        "parser": after.parser,
        "parser_version": after.parser_version,
        "vendor_job_id": after.vendor_job_id,
        "result_blob": result and result.key,
        "result_sha256": result and result.sha256,
        "result_bytes": result and result.size_bytes,
        "pages": after.pages,
        "warnings": orjson.dumps(after.warnings).decode() if after.warnings else "[]",
        "error_code": after.error_code,
        "error_message": after.error_message,
    }


_STATES = {str(state): state for state in State}
_NO_OPTIONS = ParseOptions()
_DEFAULTS = msgspec.to_builtins(_NO_OPTIONS)


def _options(text: str) -> ParseOptions:
    if text == "{}":
        return _NO_OPTIONS
    return msgspec.convert(orjson.loads(text), ParseOptions)
