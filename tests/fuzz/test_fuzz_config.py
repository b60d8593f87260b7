"""Whatever a file or the environment holds, loading gives a Config or ConfigInvalid, nothing else.

And a secret never gets into the problems. BRAIDMQ_FUZZ_SECONDS makes it run longer.
"""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from braidmq.broker.config import (
    Config,
    ConfigInvalid,
    Layer,
    changes,
    duration_ms,
    environment_layer,
    file_layer,
    flat,
    load,
    needs_restart,
    size_bytes,
)
from braidmq.broker.errors import InvalidArgument

SECRET = "hunter2hunter2"
# A second of fuzzing is worth about a thousand examples.
EXAMPLES = max(200, 1_000 * int(os.environ.get("BRAIDMQ_FUZZ_SECONDS", "0")) // 4)
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)

KEYS = st.sampled_from(
    "data listeners url tls_certificate tls_key drain_ms log level format storage segment_bytes"
    " limits body_bytes_max queues_max users alice password_hash rules effect actions names queues"
    " orders fifo durability tags delay_ms".split()
) | st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["sync", "allow", "info", "30s", "4MiB", "braid://127.0.0.1:1", "queue:*"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
NAMES = st.builds("BRAIDMQ_{}".format, st.lists(KEYS.map(str.upper), max_size=4).map("__".join))


def load_or_refuse(*layers: Layer) -> None:
    try:
        loaded = load(*layers)
    except ConfigInvalid as error:
        assert error.problems and all(isinstance(problem, str) for problem in error.problems)
        return
    assert isinstance(loaded.config, Config)
    assert flat(loaded.config)
    assert not changes(loaded.config, loaded.config)
    assert not needs_restart(loaded.config, loaded.config)
    loaded.config.access_users()


@fuzz
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_values_are_loaded_or_refused(values):
    load_or_refuse(Layer("f.toml", values))


@fuzz
@given(st.text(max_size=200))
def test_any_file_is_loaded_or_refused(text):
    try:
        layer = file_layer("f.toml", text)
    except ConfigInvalid:
        return
    load_or_refuse(layer)


@fuzz
@given(
    st.dictionaries(
        NAMES, st.text(max_size=30) | st.sampled_from(["[", "{", '{"a": 1}', "[1]"]), max_size=5
    )
)
def test_any_environment_is_loaded_or_refused(environment):
    def read(name: str) -> str:
        raise OSError(2, "No such file")

    try:
        layer = environment_layer(environment, read)
    except ConfigInvalid:
        return
    load_or_refuse(layer)


@fuzz
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.sampled_from(["", "s", "_hash"]))
def test_no_secret_is_told(values, suffix):
    try:
        load(Layer("f", {"users": {"alice": {**values, f"password{suffix}": SECRET}}}))
    except ConfigInvalid as error:
        assert SECRET not in str(error)


@fuzz
@given(st.text(max_size=40) | st.from_regex(r"([0-9.]{1,30}[a-zA-Z]{0,3}){1,4}"))
def test_any_number_with_a_unit_is_read_or_refused(text):
    for read in (duration_ms, size_bytes):
        try:
            assert read(text) >= 0
        except InvalidArgument:
            pass
