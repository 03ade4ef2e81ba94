"""Cost reports as CSV (RFC 4180), safe to open in a spreadsheet."""

import csv
import io
from dataclasses import astuple, fields

from schemas.money_bodies import CostLine, CostsBody

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet run a text cell. Source: OWASP, CSV injection."""


def costs_csv(body: CostsBody) -> str:
    """Write a report: a heading, and a row for each line; numbers stay numbers."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([body.by, *(field.name for field in fields(CostLine)[1:])])
    for line in body.lines:
        name, *figures = astuple(line)
        writer.writerow([safe_cell(name), *figures])
    return out.getvalue()


def safe_cell(text: str) -> str:
    """Guard text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
