"""Tables of sizes and keys: seeded, within their limits, distributed as they say."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.sizes import SIZE_MAX, draw_keys, draw_sizes


def test_a_fixed_size_needs_one_row():
    assert draw_sizes("1k", seed=1) == [1000]


@given(st.integers(24, 5000), st.integers(0, 5000), st.integers(0, 9))
def test_drawn_sizes_keep_to_their_range_and_seed(low, more, seed):
    for text in (f"uniform:{low}-{low + more}", f"zipf:1.2:{low}-{low + more}"):
        sizes = draw_sizes(text, seed, 50)
        assert len(sizes) == 50
        assert all(low <= size <= low + more for size in sizes)
        assert sizes == draw_sizes(text, seed, 50)


def test_small_sizes_are_the_frequent_ones_of_zipf():
    sizes = draw_sizes("zipf:1.2:100-100k", seed=1)
    assert sorted(sizes)[len(sizes) // 2] < 1000 < 10_000 < max(sizes)


def test_sizes_come_from_a_file(tmp_path):
    file = tmp_path / "sizes"
    file.write_text("100\n2k\n")
    assert draw_sizes(f"file:{file}", seed=1) == [100, 2000]
    file.write_text("")
    with pytest.raises(ValueError, match="between one and a million sizes"):
        draw_sizes(f"file:{file}", seed=1)
    with pytest.raises(OSError, match="nowhere"):
        draw_sizes(f"file:{tmp_path}/nowhere", seed=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("23", "between 24"),
        (str(SIZE_MAX + 1), "between 24"),
        ("uniform:100", "needs a range"),
        ("uniform:200-100", "ends before it begins"),
        ("zipf:0:100-200", "needs an exponent"),
        ("zipf:100-200", "needs an exponent|needs a range"),
        ("normal:100-200", "is no size"),
    ],
)
def test_wrong_sizes_are_refused_in_plain_words(text, words):
    with pytest.raises(ValueError, match=words):
        draw_sizes(text, seed=1)


@given(st.integers(1, 300), st.sampled_from(["uniform", "zipf:1.1"]), st.integers(0, 9))
def test_keys_are_numbers_below_their_count(count, distribution, seed):
    keys = draw_keys(count, distribution, seed, 50)
    assert len(keys) == 50
    assert all(0 <= key < count for key in keys)
    assert keys == draw_keys(count, distribution, seed, 50)


def test_keys_by_zipf_are_as_frequent_as_its_law_says():
    found = Counter(draw_keys(100, "zipf:1", seed=1, rows=100_000))
    assert found[0] / found[1] == pytest.approx(2, rel=0.1)
    assert found[0] / found[9] == pytest.approx(10, rel=0.15)


def test_no_keys_need_no_table():
    assert draw_keys(0, "uniform", seed=1) == []


@pytest.mark.parametrize("text", ["zipf", "zipf:0", "zipf:nan", "zipf:11", "normal", "uniform:2"])
def test_wrong_distributions_are_refused(text):
    with pytest.raises(ValueError, match=r"zipf:1\.1"):
        draw_keys(5, text, seed=1)
