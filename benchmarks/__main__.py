"""``python -m braidmq.benchmarks``: the commands of ``braidmq bench``; without one, all."""

import sys

from .cli import bench

__all__: list[str] = []


def _arguments(given: list[str]) -> list[str]:
    """``make bench ARGS="--only stream"`` means the peers, too."""
    if not given or (given[0].startswith("-") and given[0] != "--help"):
        return ["peers", "--quick", *given]
    return given


if __name__ == "__main__":
    bench.main(_arguments(sys.argv[1:]), prog_name="python -m braidmq.benchmarks")
