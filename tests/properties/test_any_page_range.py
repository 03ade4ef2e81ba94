"""Page ranges of any pages: every page is kept, and none is added."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.page_ranges import read_ranges, split_ranges, write_ranges


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(1, 60))
def test_every_page_is_kept_and_none_is_added(numbers: set[int], pages: int) -> None:
    ranges = read_ranges(",".join(map(str, numbers)))
    assert read_ranges(write_ranges(ranges)) == ranges
    parts = split_ranges(ranges, pages)
    within, beyond = ([n for a, b in part for n in range(a, b + 1)] for part in parts)
    assert within == sorted(n for n in numbers if n <= pages)
    assert beyond == sorted(n for n in numbers if n > pages)
