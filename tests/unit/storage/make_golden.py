"""Writes tests/data/format-N: a data directory as this version writes it, and what is in it.

Run it before the format changes, never after::

    python -m tests.unit.storage.make_golden

``test_golden.py`` opens the directories of all formats for ever.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from braidmq.storage import FileLog, Reference
from braidmq.storage.block import decode_block, encode_block
from braidmq.storage.disk import RealDisk
from braidmq.storage.frame import VERSION
from braidmq.storage.record import (
    encode_ack,
    encode_definition,
    encode_delay,
    encode_link,
    encode_message,
    encode_purge,
    encode_receive,
)
from braidmq.storage.streams import encode_cold, encode_cursor
from braidmq.storage.tools import dump
from tests.simdisk import StepScheduler, StepWorker, run_steps

DATA = Path(__file__).resolve().parents[2] / "data"


class SteadyDisk(RealDisk):
    """Real files, without chance."""

    def random(self, size: int) -> bytes:
        return bytes(range(1, size + 1))


class Recorder:
    """A broker that writes down what it is handed, and has one page of state."""

    def __init__(self) -> None:
        self.handed: list[list[object]] = []
        self.live = 0

    def load(self, kind, content):
        self.handed.append(["load", kind, content.hex()])

    def apply(self, lsn, kind, buffer, at):
        self.handed.append(["apply", kind, lsn])

    def finish(self):
        self.handed.append(["finish"])

    def snapshot(self):
        yield 1, b"the state of the broker"
        yield 2, b""

    def references(self, first, end):
        yield list[Reference]()


def write(directory: Path) -> None:
    """One opening that takes a checkpoint, and another one behind it."""
    for opening in range(2):
        workers: list[StepWorker] = []

        def worker(name: str, workers: list[StepWorker] = workers) -> StepWorker:
            workers.append(StepWorker(name))
            return workers[-1]

        log = FileLog(
            str(directory),
            disk=SteadyDisk(),
            writer=worker,
            segment_bytes=1024,
            ballast_bytes=0,
            disk_free_bytes_min=0,
            cold_compress=False,  # what zstd makes of it differs from version to version
        )
        log.open(Recorder())
        scheduler = StepScheduler(now_ms=1_700_000_000_000 + opening)
        log.start(scheduler)

        def settle(scheduler: StepScheduler = scheduler, workers=workers) -> None:
            while scheduler.step() or any(worker.step() for worker in workers):
                pass

        append(log, settle)
        run_steps(log.checkpoint() if opening == 0 else iter(()), settle)
        append(log, settle)
        log.close()
    (directory / "LOCK").unlink()  # says which process it was


def append(log: FileLog, settle) -> None:
    """A record of every type, with every option."""
    log.append((encode_definition(1, b"\x81\xa4name\xa6orders"),))
    one = log.append(encode_message([(1, 1)], 1000, b"\x80", b"a body"), references=1)
    log.append(encode_message([(1, 2), (2, 1)], 1001, b"\x81\xa1k\xa1v", b"for two"), references=2)
    settle()
    options: Any = {"due_ms": 5000, "expire_ms": 9000, "group": 77, "dedup": b"0123456789abcdef"}
    log.append(encode_message([(3, 1)], 1002, b"", b"x" * 500, **options), references=1)
    log.append(encode_message([(1, 1)], 1000, b"\x80", b"a body", moved=(one, one)), references=1)
    log.append((encode_receive(1, 2, [1]),))
    log.append((encode_delay(1, 7000, [1]),))
    settle()
    log.append((encode_link(1, 2, 9, 1, one, 1003, 0, b"\x81\xa3why\xa3max"),), references=1)
    log.append((encode_ack(1, 3, [1, 2, 3, 4, 5, 9]),))
    log.append((encode_ack(2, 0, range(1, 100)),))
    log.append((encode_purge(3, [10, 0, 20]),))
    log.append((encode_definition(2, b""),))
    settle()
    bodies = [b"one", b"two", b"x" * 300]
    plain = encode_block(5, 1, 1004, [b"", b"", b""], None, bodies)
    full = encode_block(5, 4, 1005, [b"k", b"", b"key"], [b"", b"\x80", b""], bodies, [0, 0, 7])
    log.append_together([plain, full], [1, 1])
    file = log.cold.write(5, 1, [decode_block(plain), decode_block(full)])
    log.append((encode_cold(file, [1, 2]),))
    log.append((encode_cursor(6, 5, 4, 1 << 33, 1006),))
    settle()


def described(directory: Path) -> list[dict[str, object]]:
    """Every record, as JSON can say it."""
    rows: list[dict[str, object]] = []
    for row in dump(str(directory)):
        rows.append(
            {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in row.items()
            }
        )
    result: list[dict[str, object]] = json.loads(json.dumps(rows))
    return result


def main() -> None:
    target = DATA / f"format-{VERSION}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write(target / "data")
    recorder = Recorder()
    copy = target / "copy"
    shutil.copytree(target / "data", copy)
    log = FileLog(str(copy), ballast_bytes=0, disk_free_bytes_min=0)
    log.open(recorder)
    log.close()
    shutil.rmtree(copy)
    expected = {"records": described(target / "data"), "handed": recorder.handed}
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
