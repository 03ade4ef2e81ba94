"""The refusals of a parse request, in the shape of LlamaCloud's 422 bodies."""

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.llamacloud.catalogue import CREDITS_PER_PAGE, EVENTS, VERSIONS
from tests.doubles.llamacloud.content import numbers_of
from tests.doubles.llamacloud.shape import HOOK, PARSE, Detail, Loc, flaw, misshapen

# LlamaCloud limits the metadata without saying where; these limits are the double's own.
MOST_METADATA_ENTRIES = 50
MOST_METADATA_KEY = 64
MOST_METADATA_VALUE = 512
LANGUAGE = re.compile(r"[a-z]{2,4}(_[a-z]+)?")


def flaws_of(body: Any, *, has_file: bool, public_hooks_only: bool) -> list[Detail]:
    """Give all that is wrong with a parse request; an empty list: nothing."""
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        return [flaw("model_attributes_type", ("body",), message, body)]
    found = [*misshapen(body, PARSE, ("body",))]
    if found:
        return found
    found = [*_tier(body), *_source(body, has_file=has_file)]
    found += [*_pages(body), *_limits(body), *_metadata(body)]
    for index, hook in enumerate(body.get("webhook_configurations") or []):
        loc = ("body", "webhook_configurations", index)
        found += _hook(hook or {}, loc, public_only=public_hooks_only)
    return found


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
    if most is not None and most < 1:
        loc = ("body", "page_ranges", "max_pages")
        found.append(flaw("greater_than", loc, "Input should be greater than 0", most))
    try:
        if target is not None:
            numbers_of(target)
    except ValueError:
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
        if not LANGUAGE.fullmatch(language or ""):
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
        if len(key) > MOST_METADATA_KEY or len(value or "") > MOST_METADATA_VALUE:
            message = "Value error, Metadata key or value too long"
            found.append(flaw("value_error", (*loc, key), message, value))
    return found


def hook_flaws(hook: Any, *, public_only: bool) -> list[Detail]:
    """Give what is wrong with a webhook configuration that is to be stored."""
    if not isinstance(hook, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        return [flaw("model_attributes_type", ("body",), message, hook)]
    found = [*misshapen(hook, HOOK, ("body",))]
    return found or _hook(hook, ("body",), public_only=public_only)


def _hook(hook: dict[str, Any], loc: Loc, *, public_only: bool) -> list[Detail]:
    found = []
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
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" and ipaddress.ip_address(host).is_global
    except ValueError:
        return parts.scheme == "https" and "." in host and not host.endswith(".local")
