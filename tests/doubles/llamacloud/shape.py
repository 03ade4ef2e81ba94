"""The shape of a parse request: every field with its type, and a walk that finds what differs."""

from collections.abc import Iterator, Mapping
from typing import Any

Detail = dict[str, Any]
Loc = tuple[str | int, ...]

ANYTHING = object()
TEXTS = {"*": str}  # an object of any names whose values are all of one type

HOOK: Mapping[str, Any] = {
    "webhook_url": str,
    "webhook_events": [str],
    "webhook_headers": {"*": ANYTHING},
    "webhook_output_format": str,
    "webhook_signing_secret": str,
}
PARSE: Mapping[str, Any] = {
    "tier": str,
    "version": str,
    "file_id": str,
    "source_url": str,
    "http_proxy": str,
    "client_name": str,
    "configuration_id": str,
    "disable_cache": bool,
    "user_metadata": TEXTS,
    "webhook_configuration_ids": [str],
    "webhook_configurations": [HOOK],
    "fast_options": ANYTHING,
    "agentic_options": {"custom_prompt": str},
    "crop_box": dict.fromkeys(("bottom", "left", "right", "top"), float),
    "input_options": dict.fromkeys(("html", "image", "pdf", "presentation", "spreadsheet"), dict),
    "output_options": {
        "additional_outputs": [str],
        "extract_printed_page_number": bool,
        "granular_bboxes": [str],
        "images_to_save": [str],
        "markdown": dict,
        "save_output_pdf": bool,
        "spatial_text": dict,
        "tables_as_spreadsheet": dict,
        "watermark_handling": str,
    },
    "page_ranges": {"max_pages": int, "target_pages": str},
    "processing_control": {
        "job_failure_conditions": {
            "allowed_page_failure_ratio": float,
            "fail_on_buggy_font": bool,
            "fail_on_image_extraction_error": bool,
            "fail_on_image_ocr_error": bool,
            "fail_on_markdown_reconstruction_error": bool,
        },
        "timeouts": {"base_in_seconds": int, "extra_time_per_page_in_seconds": int},
    },
    "processing_options": {
        "aggressive_table_extraction": bool,
        "auto_mode_configuration": [dict],
        "confidence_score_effort": str,
        "cost_optimizer": {"enable": bool},
        "disable_heuristics": bool,
        "forms": str,
        "ignore": dict,
        "ocr_parameters": {"languages": [str]},
        "specialized_chart_parsing": str,
    },
}
WRONG = {
    str: ("string_type", "Input should be a valid string"),
    int: ("int_type", "Input should be a valid integer"),
    float: ("float_type", "Input should be a valid number"),
    bool: ("bool_type", "Input should be a valid boolean"),
    list: ("list_type", "Input should be a valid list"),
    dict: ("dict_type", "Input should be a valid dictionary"),
}


def flaw(kind: str, loc: Loc, message: str, value: Any) -> Detail:
    """Give one entry of a 422 body."""
    return {"type": kind, "loc": list(loc), "msg": message, "input": value}


def misshapen(value: Any, shape: Any, loc: Loc) -> Iterator[Detail]:
    """Give every place where a value is not of a shape; null is a value left out."""
    if value is None or shape is ANYTHING:
        return
    kind = shape if isinstance(shape, type) else list if isinstance(shape, list) else dict
    if not is_a(value, kind):
        yield flaw(WRONG[kind][0], loc, WRONG[kind][1], value)
    elif isinstance(shape, list):
        for index, each in enumerate(value):
            yield from misshapen(each, shape[0], (*loc, index))
    elif isinstance(shape, Mapping):
        for name, each in value.items():
            if name in shape or "*" in shape:
                yield from misshapen(each, shape.get(name, shape.get("*")), (*loc, name))
            else:
                yield flaw("extra_forbidden", (*loc, name), "Extra inputs are not permitted", each)


def is_a(value: Any, kind: type) -> bool:
    """Tell whether a JSON value is of a type; true is no number, and 1 is one with a point too."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
