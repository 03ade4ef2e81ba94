"""Page ranges: read in any order, written in one form."""

import pytest

from schemas.page_ranges import count_pages, first_pages, read_ranges, write_ranges


@pytest.mark.parametrize(
    ("text", "written", "pages"),
    [
        ("1", "1", 1),
        ("1,3-5", "1,3-5", 4),
        (" 4 , 3-4,1", "1,3-4", 3),
        ("7-7", "7", 1),
        ("1-2,3", "1-3", 3),
        ("5-9,6-7", "5-9", 5),
        ("1-999999", "1-999999", 999_999),
    ],
)
def test_ranges_have_one_form(text: str, written: str, pages: int) -> None:
    ranges = read_ranges(text)
    assert (write_ranges(ranges), count_pages(ranges)) == (written, pages)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is neither a page from 1 nor a range"),
        ("1,", "'' is neither"),
        ("0", "'0' is neither"),
        ("01", "'01' is neither"),
        ("-3", "'-3' is neither"),
        ("3-", "'3-' is neither"),
        ("1-2-3", "'1-2-3' is neither"),
        ("1 - 2", "'1 - 2' is neither"),
        ("1000000", "'1000000' is neither"),
        ("\u0663", "is neither"),
        ("all", "'all' is neither"),
        ("2,9-3", "the range 9-3 runs backwards"),
    ],
)
def test_what_is_no_choice_of_pages(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_ranges(text)


@pytest.mark.parametrize(
    ("most", "left"),
    [(1, "2"), (2, "2-3"), (3, "2-3,5"), (4, "2-3,5,7"), (6, "2-3,5,7-9"), (99, "2-3,5,7-9")],
)
def test_the_first_pages_of_ranges(most: int, left: str) -> None:
    assert write_ranges(first_pages(read_ranges("2-3,5,7-9"), most)) == left
