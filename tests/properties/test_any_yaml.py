"""YAML of any data: it reads back."""

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.yaml_text import yaml_text

printable = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn", "Co"))
) | st.sampled_from(
    ["true", "No", "null", "~", "1", "1.0", "- a", "a: b", "a #b", "a\nb", "\n", ""]
)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | printable,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=3),
)


@given(st.dictionaries(printable, plain, min_size=1, max_size=4))
def test_yaml_reads_back(data: dict[str, Any]) -> None:
    assert yaml.safe_load(yaml_text(data)) == data
