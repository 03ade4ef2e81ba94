"""The documentation's tables say what the code says, and no page names a setting that is none."""

import re
from pathlib import Path

import pytest

from services.config import PREFIX, Settings
from services.documentation import TABLES, renewed

ROOT = Path(__file__).parent.parent.parent
PAGES = ["README.md", "Dockerfile", "compose.yaml", "ops", "docs", "services", "streams"]


@pytest.mark.parametrize("mark", sorted(TABLES))
def test_a_table_is_up_to_date(mark: str) -> None:
    name, make = TABLES[mark]
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == renewed(text, mark, make()), "run `make docs`"


def test_a_file_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        renewed("nothing here", "settings", "|")


def test_every_setting_that_is_named_is_one() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    paths = [path for page in PAGES for path in (ROOT / page, *(ROOT / page).rglob("*.*"))]
    named = {
        name
        for path in paths
        if path.is_file() and path.suffix != ".pyc"
        for name in re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 40
    assert named <= known
