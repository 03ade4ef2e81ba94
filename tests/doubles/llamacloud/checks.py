"""The refusals of a parse request, in the shape of LlamaCloud's 422 bodies."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.llamacloud.catalogue import CREDITS_PER_PAGE, EVENTS, VERSIONS
from tests.doubles.llamacloud.content import numbers_of

Detail = dict[str, Any]

# Fields that are objects, with the fields that they know; None: any.
GROUPS: Mapping[str, frozenset[str] | None] = {
    "agentic_options": frozenset({"custom_prompt"}),
    "crop_box": frozenset({"bottom", "left", "right", "top"}),
    "fast_options": None,
    "input_options": frozenset({"html", "image", "pdf", "presentation", "spreadsheet"}),
    "output_options": frozenset(
        {"additional_outputs", "extract_printed_page_number", "granular_bboxes", "images_to_save"}
        | {"markdown", "save_output_pdf", "spatial_text", "tables_as_spreadsheet"}
        | {"watermark_handling"}
    ),
    "page_ranges": frozenset({"max_pages", "target_pages"}),
    "processing_control": frozenset({"job_failure_conditions", "timeouts"}),
    "processing_options": frozenset(
        {"aggressive_table_extraction", "auto_mode_configuration", "confidence_score_effort"}
        | {"cost_optimizer", "disable_heuristics", "forms", "ignore", "ocr_parameters"}
        | {"specialized_chart_parsing"}
    ),
    "user_metadata": None,
}
SCALARS = frozenset(
    {"client_name", "configuration_id", "disable_cache", "file_id", "http_proxy", "source_url"}
    | {"tier", "version", "webhook_configuration_ids", "webhook_configurations"}
)
HOOK_FIELDS = frozenset(
    {"webhook_url", "webhook_events", "webhook_headers"}
    | {"webhook_output_format", "webhook_signing_secret"}
)
# LlamaCloud limits the metadata without saying where; these limits are the double's own.
MOST_METADATA_ENTRIES = 50
MOST_METADATA_KEY = 64
MOST_METADATA_VALUE = 512
LANGUAGE = re.compile(r"[a-z]{2,4}(_[a-z]+)?")


def flaw(kind: str, loc: tuple[str | int, ...], message: str, value: Any) -> Detail:
    """Give one entry of a 422 body."""
    return {"type": kind, "loc": list(loc), "msg": message, "input": value}


def flaws_of(body: Any, *, has_file: bool, public_hooks_only: bool) -> list[Detail]:
    """Give all that is wrong with a parse request; an empty list: nothing."""
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        return [flaw("model_attributes_type", ("body",), message, body)]
    found = [*_shape(body), *_tier(body), *_source(body, has_file=has_file)]
    if not found:
        found = [*_pages(body), *_limits(body), *_metadata(body)]
        for index, hook in enumerate(body.get("webhook_configurations") or []):
            loc = ("body", "webhook_configurations", index)
            found += hook_flaws(hook, loc, public_only=public_hooks_only)
    return found


def _shape(body: dict[str, Any]) -> list[Detail]:
    found = []
    for name, value in body.items():
        if name not in GROUPS and name not in SCALARS:
            found.append(_extra(("body", name), value))
        elif name in GROUPS and value is not None:
            found += _group(name, value)
    hooks = body.get("webhook_configurations")
    if hooks is not None and not isinstance(hooks, list):
        loc = ("body", "webhook_configurations")
        found.append(flaw("list_type", loc, "Input should be a valid list", hooks))
    return found


def _group(name: str, value: Any) -> list[Detail]:
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary"
        return [flaw("dict_type", ("body", name), message, value)]
    known = GROUPS[name]
    return [_extra(("body", name, k), v) for k, v in value.items() if known and k not in known]


def _extra(loc: tuple[str | int, ...], value: Any) -> Detail:
    return flaw("extra_forbidden", loc, "Extra inputs are not permitted", value)


def _tier(body: dict[str, Any]) -> list[Detail]:
    missing = [
        flaw("missing", ("body", name), "Field required", body)
        for name in ("tier", "version")
        if body.get(name) is None
    ]
    if missing:
        return missing
    tier, version = body["tier"], body["version"]
    if tier not in CREDITS_PER_PAGE:
        message = "Input should be 'fast', 'cost_effective', 'agentic' or 'agentic_plus'"
        return [flaw("literal_error", ("body", "tier"), message, tier)]
    if version != "latest" and version not in VERSIONS[tier]:
        message = f"Value error, Unknown version '{version}' for tier '{tier}'"
        return [flaw("value_error", ("body", "version"), message, version)]
    return []


def _source(body: dict[str, Any], *, has_file: bool) -> list[Detail]:
    given = [name for name in ("file_id", "source_url") if body.get(name) is not None]
    if has_file == (not given) and len(given) <= 1:
        return []
    message = "Value error, Exactly one of file_id and source_url must be provided"
    return [flaw("value_error", ("body",), message, body)]


def _pages(body: dict[str, Any]) -> list[Detail]:
    ranges = body.get("page_ranges") or {}
    most, target = ranges.get("max_pages"), ranges.get("target_pages")
    found = []
    if most is not None and (not isinstance(most, int) or most < 1):
        loc = ("body", "page_ranges", "max_pages")
        found.append(flaw("greater_than", loc, "Input should be greater than 0", most))
    try:
        if target is not None:
            numbers_of(target)
    except (ValueError, AttributeError):
        loc = ("body", "page_ranges", "target_pages")
        found.append(flaw("value_error", loc, "Value error, Invalid target_pages", target))
    return found


def _limits(body: dict[str, Any]) -> list[Detail]:
    found = []
    timeouts = (body.get("processing_control") or {}).get("timeouts") or {}
    for name, most in (("base_in_seconds", 7200), ("extra_time_per_page_in_seconds", 300)):
        if (timeouts.get(name) or 0) > most:
            message = f"Input should be less than or equal to {most}"
            path = ("body", "processing_control", "timeouts", name)
            found.append(flaw("less_than_equal", path, message, timeouts[name]))
    ocr = (body.get("processing_options") or {}).get("ocr_parameters") or {}
    for index, language in enumerate(ocr.get("languages") or []):
        if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
            loc = ("body", "processing_options", "ocr_parameters", "languages", index)
            found.append(flaw("enum", loc, "Input should be a known language", language))
    return found


def _metadata(body: dict[str, Any]) -> list[Detail]:
    tags = body.get("user_metadata") or {}
    loc = ("body", "user_metadata")
    if len(tags) > MOST_METADATA_ENTRIES:
        return [flaw("value_error", loc, "Value error, Too many metadata entries", tags)]
    found = []
    for key, value in tags.items():
        if not isinstance(value, str):
            message = "Input should be a valid string"
            found.append(flaw("string_type", (*loc, key), message, value))
        elif len(key) > MOST_METADATA_KEY or len(value) > MOST_METADATA_VALUE:
            message = "Value error, Metadata key or value too long"
            found.append(flaw("value_error", (*loc, key), message, value))
    return found


def hook_flaws(hook: Any, loc: tuple[str | int, ...], *, public_only: bool) -> list[Detail]:
    """Give what is wrong with one webhook configuration."""
    if not isinstance(hook, dict):
        return [flaw("model_type", loc, "Input should be a valid dictionary", hook)]
    found = [_extra((*loc, name), hook[name]) for name in hook if name not in HOOK_FIELDS]
    for event in hook.get("webhook_events") or []:
        if event not in EVENTS:
            message = "Input should be a known event"
            found.append(flaw("literal_error", (*loc, "webhook_events"), message, event))
    if hook.get("webhook_output_format") not in {None, "json", "string"}:
        message, value = "Input should be 'string' or 'json'", hook["webhook_output_format"]
        found.append(flaw("literal_error", (*loc, "webhook_output_format"), message, value))
    url = hook.get("webhook_url")
    if public_only and url is not None and not is_public(url):
        message = "Value error, Webhook URL must be a public HTTPS URL"
        found.append(flaw("value_error", (*loc, "webhook_url"), message, url))
    return found


def is_public(url: str) -> bool:
    """Tell whether LlamaCloud would send a webhook there: https, no private or loopback host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" and ipaddress.ip_address(host).is_global
    except ValueError:
        return parts.scheme == "https" and "." in host and not host.endswith(".local")
