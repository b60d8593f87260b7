"""Filters and topics for tests that compare, and what says by other means which filter matches."""

import re

from hypothesis import strategies as st

__all__ = ["FILTERS", "TOPICS", "matches_by_pattern"]

LEVEL = st.sampled_from(["", "a", "b", "$", "$a"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = (
    st.lists(LEVEL | st.sampled_from("+#"), min_size=1, max_size=6)
    .map("/".join)
    .filter(lambda filter: filter and "#/#" not in filter)
)


def matches_by_pattern(filter: str, topic: str) -> bool:
    """Whether a filter matches a topic, by a regular expression: each level is text and a slash."""
    if topic[0] == "$" and filter[0] in "+#":
        return False
    wild = {"+": "[^/]*/", "#": "([^/]*/)*"}
    pattern = "".join(wild.get(level) or re.escape(level) + "/" for level in filter.split("/"))
    return re.fullmatch(pattern, topic + "/") is not None
