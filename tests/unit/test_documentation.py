"""The documentation's tables say what the code says."""

from pathlib import Path

import pytest

from services.documentation import TABLES, renewed

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("mark", sorted(TABLES))
def test_a_table_is_up_to_date(mark: str) -> None:
    name, make = TABLES[mark]
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == renewed(text, mark, make()), "run `make docs`"


def test_a_file_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        renewed("nothing here", "settings", "|")
