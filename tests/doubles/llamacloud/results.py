"""Parse results as `GET /api/v2/parse/{id}` gives them, one function per expand value."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from tests.doubles.llamacloud.catalogue import CONTENT_FILES, Status
from tests.doubles.llamacloud.content import PageText
from tests.doubles.llamacloud.jobs import Job, iso

Presign = Callable[[bytes, str], str]
"""Gives a URL under which bytes of a content type can be fetched for a while."""

PAGE_SEPARATOR = "\n\n---\n\n"
WIDTH, HEIGHT = 612.0, 792.0


def heading(page: PageText) -> str:
    """Give a page's markdown: its number as a heading over its text."""
    return f"# Page {page.number}\n\n{page.text}"


def failure(page: PageText) -> dict[str, Any]:
    """Give the entry of a page that failed."""
    return {"page_number": page.number, "success": False, "error": page.error}


def markdown(pages: Iterable[PageText]) -> dict[str, Any]:
    """Give the `markdown` result."""
    return {
        "pages": [
            failure(page)
            if page.error is not None
            else {
                "page_number": page.number,
                "success": True,
                "markdown": heading(page),
                "header": None,
                "footer": None,
            }
            for page in pages
        ]
    }


def text(pages: Iterable[PageText]) -> dict[str, Any]:
    """Give the `text` result; it has no flag, a page that failed has no text."""
    return {"pages": [{"page_number": page.number, "text": page.text} for page in pages]}


def items(pages: Iterable[PageText]) -> dict[str, Any]:
    """Give the `items` result: a heading and a paragraph per page."""
    return {"pages": [failure(p) if p.error is not None else _structured(p) for p in pages]}


def _structured(page: PageText) -> dict[str, Any]:
    box = [{"x": 72.0, "y": 72.0, "w": 468.0, "h": 24.0}]
    title = f"Page {page.number}"
    return {
        "page_number": page.number,
        "success": True,
        "page_width": WIDTH,
        "page_height": HEIGHT,
        "items": [
            {"type": "heading", "level": 1, "md": f"# {title}", "value": title, "bbox": box},
            {"type": "text", "md": page.text, "value": page.text, "bbox": box},
        ],
    }


def metadata(pages: Iterable[PageText]) -> dict[str, Any]:
    """Give the `metadata` result."""
    entries = [
        {
            "page_number": page.number,
            "confidence": 0.97 if page.error is None else None,
            "cost_optimized": False,
            "original_orientation_angle": 0,
            "printed_page_number": str(page.number),
            "slide_section_name": None,
            "speaker_notes": None,
            "triggered_auto_mode": False,
        }
        for page in pages
    ]
    return {"pages": entries, "document": {"confidence": None, "confidence_breakdown": None}}


def forms(pages: Iterable[PageText]) -> dict[str, Any]:
    """Give the `forms` result: no page of the double holds a form."""
    return {
        "pages": [
            failure(page)
            if page.error is not None
            else {
                "page_number": page.number,
                "success": True,
                "forms": [],
                "detected_form_types": None,
                "page_width": WIDTH,
                "page_height": HEIGHT,
            }
            for page in pages
        ]
    }


def markdown_full(pages: Iterable[PageText]) -> str:
    """Give the `markdown_full` result."""
    return PAGE_SEPARATOR.join(heading(page) for page in pages if page.error is None)


def text_full(pages: Iterable[PageText]) -> str:
    """Give the `text_full` result."""
    return PAGE_SEPARATOR.join(page.text for page in pages if page.error is None)


def job_metadata(job: Job) -> dict[str, Any]:
    """Give the `job_metadata` result."""
    return {
        "job_pages": len(job.pages()),
        "job_is_cache_hit": job.cached,
        "started_at": iso(job.created_at),
        "ended_at": iso(job.updated_at),
    }


RESULTS: dict[str, Callable[[list[PageText]], Any]] = {
    "text": text,
    "markdown": markdown,
    "items": items,
    "metadata": metadata,
    "forms": forms,
    "text_full": text_full,
    "markdown_full": markdown_full,
}


def file_of(job: Job, name: str) -> bytes | None:
    """Give the bytes of a result file, or None where this job has none."""
    if name in RESULTS:
        result = RESULTS[name](job.pages())
        return (result if isinstance(result, str) else json.dumps(result)).encode()
    wanted = (job.options.get("output_options") or {}).get("save_output_pdf")
    return job.content if name == "output_pdf" and wanted else None


def answer(job: Job, expands: frozenset[str], presign: Presign) -> dict[str, Any]:
    """Give the whole answer; a job that is not COMPLETED has nothing to expand."""
    body: dict[str, Any] = dict.fromkeys(
        [*RESULTS, "job_metadata", "images_content_metadata", "raw_parameters"]
    )
    body |= {"job": job.view(with_usage="usage" in expands), "result_content_metadata": None}
    if job.status is not Status.COMPLETED:
        return body
    pages = job.pages()
    for name in expands & RESULTS.keys():
        body[name] = RESULTS[name](pages)
    if "job_metadata" in expands:
        body["job_metadata"] = job_metadata(job)
    if "images_content_metadata" in expands:
        body["images_content_metadata"] = {"images": [], "total_count": 0}
    body["result_content_metadata"] = _files(job, expands, presign)
    return body


def _files(job: Job, expands: frozenset[str], presign: Presign) -> dict[str, Any] | None:
    found = {}
    for name, (key, content_type) in CONTENT_FILES.items():
        if f"{name}_content_metadata" in expands:
            content = file_of(job, name)
            found[key] = {
                "size_bytes": len(content or b""),
                "exists": content is not None,
                "presigned_url": None if content is None else presign(content, content_type),
            }
    return found or None
