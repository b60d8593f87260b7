"""No matter what bytes come, no target raises: guided by coverage, in a process of its own.

    python tests/fuzz/atheris_targets.py frames -max_total_time=60

The targets are those of ``wire_targets.py``, ``stomp_targets.py`` and ``log_targets.py``;
libFuzzer's flags follow the name. It ends with status 0 when nothing was found, and else prints the
input. ``recovery`` leaves files in BRAIDMQ_FUZZ_SCRATCH.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

with atheris.instrument_imports(include=["braidmq"]):
    from braidmq.protocols.stomp.frames import Version
    from tests.fuzz import log_targets, stomp_targets, wire_targets


def frames(data: bytes) -> None:
    """The native frame parser and its decoders, with reads that end anywhere."""
    wire_targets.check_frames(data[1:], [data[0] * 7] if data else [])


def session(data: bytes) -> None:
    """A server session after its handshake, or before it."""
    wire_targets.Rig().attack(data[1:], bool(data[:1] < b"\x80"), [len(data) // 2])


def stomp(data: bytes) -> None:
    """The STOMP frame parser, in a version, with reads that end anywhere."""
    version = [*Version][data[0] % 3] if data else Version.V10
    stomp_targets.check_frames(b"CONNECT\n\n\0" + data[2:], [*data[1:2]], version)
    stomp_targets.check_frames(data[2:], [*range(len(data))], version)


def parsers(data: bytes) -> None:
    """Frame headers and records of the log."""
    log_targets.check_parsers(data)


def recovery(data: bytes) -> None:
    """A data directory whose last file ends with these bytes."""
    names = log_targets.files_of(log_targets.original(False))
    last = log_targets.original(False) / "shard-00" / names[-1]
    content = last.read_bytes()
    cut = int.from_bytes(data[:2], "little") % (len(content) + 1)
    log_targets.check_directory(False, {names[-1]: content[:cut] + data[2:]})


TARGETS = {target.__name__: target for target in (frames, session, stomp, parsers, recovery)}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()  # does not return, and runs no handlers: whoever started us cleans up
