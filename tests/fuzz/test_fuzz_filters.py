"""Whatever a filter policy, a selector or a message holds: see filter_targets.py.

hypothesis makes the bytes: noise, sound policies and bodies, and sound ones that were damaged.
BRAIDMQ_FUZZ_SECONDS makes it run longer.
"""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from .budget import fuzz
from .filter_targets import check_policy, check_selector

WORDS = st.sampled_from(
    "a b a.b $or prefix suffix anything-but equals-ignore-case wildcard cidr exists numeric"
    " = < > <= >= 10.0.0.0/8 ::1/128 10.0.0.1 true 5 * \\".split()
)
SCALARS = st.one_of(
    WORDS, st.text(max_size=5), st.none(), st.booleans(), st.integers(-10, 10), st.floats()
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)
ARRAYS = st.lists(SCALARS | st.dictionaries(WORDS, JSON, min_size=1, max_size=1), min_size=1)
POLICIES = st.dictionaries(WORDS, ARRAYS | JSON, max_size=4)
SELECTORS = st.lists(
    st.sampled_from(
        "a b 'a' 'b%' '' 5 -1.5e3 0x1F TRUE NULL AND OR NOT BETWEEN IN LIKE ESCAPE IS = <> <"
        ' >= + * / ( ) , "a.b" \''.split()
    )
).map(" ".join)


@st.composite
def damaged(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> bytes:
    data = bytearray(draw(texts).encode(errors="surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from("flip insert delete repeat".split())):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.binary(max_size=4))
            case "delete":
                del data[at : at + draw(st.integers(1, 4))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 20))]
    return bytes(data)


MESSAGES = st.binary(max_size=30) | damaged(st.one_of(WORDS, JSON.map(json.dumps)))


@fuzz(share=0.7, rate=300)
@given(st.binary(max_size=60) | damaged(POLICIES.map(json.dumps)), MESSAGES)
@example(b'{"a":' * 50_000, b"")
@example(b'{"a":' + b"[" * 100_000, b"")
@example(b'{"a":["x"]}', b'{"a":' + b"[" * 900 + b'"x"' + b"]" * 900 + b"}")
@example(b'{"a":["x"]}', b'{"a":' + b"[" * 100_000)
@example(b'{"a":[' + b"9" * 5_000 + b"]}", b'{"a":' + b"9" * 5_000 + b"}")
@example(b'{"a":[{"cidr":"' + b"9" * 200_000 + b'/8"}]}', b"")
@example(b'{"a":[{"wildcard":"' + b"*a" * 50_000 + b'"}]}', b"a" * 50_000)
@example(b'{"' + b"a." * 100_000 + b'":["x"]}', b"{}")
@example(b'{"a":[{"numeric":["=",0]}]}', b"[1" + b"0" * 5_000 + b"]")
def test_policies_are_taken_or_refused(policy: bytes, message: bytes) -> None:
    check_policy(policy, message)


@fuzz(share=0.3, rate=300)
@given(st.binary(max_size=60) | damaged(SELECTORS), MESSAGES)
@example(b"a LIKE '" + b"%a" * 500 + b"'", b"a" * 50_000)
@example(b"(" * 1_000, b"")
def test_selectors_are_taken_or_refused(selector: bytes, message: bytes) -> None:
    check_selector(selector, message)


def test_the_fuzzers_reach_sound_policies_and_selectors() -> None:
    """Otherwise they would show nothing but refusals."""
    assert check_policy(b'{"a": ["x", {"prefix": "y"}]}', b'{"a": "x"}')
    assert check_selector(b"a = 'x' AND b > 5", b"5")
