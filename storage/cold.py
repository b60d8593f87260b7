"""Where old blocks go: files of one shard each, beside the segments of the log.

A segment holds what came in a few seconds, of all shards and queues; a cold file holds a long range
of one shard. So reading a shard from its beginning is large sequential reads, and what has grown
too old goes by unlinking files. The format is that of ``coldfile.py``.

Rules:

- A file is immutable, and counts from the COLD record on that names it, which is appended when the
  file is on stable storage. What no record names was left by a crash: :meth:`sweep` removes it.
- Files are written and swept by whoever calls; they are read, and unlinked, by the reader's
  worker, in the order in which that was asked for. So a read never meets a file that is gone.
- A file that cannot be unlinked is left to the next sweep: it takes room, and harms nothing.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial

from .block import Block
from .codec import Compressor
from .coldfile import parse_cold_name, parse_cold_shard
from .coldreader import ColdReader, cold_path
from .coldwriter import ColdFileWriter
from .disk import Disk
from .errors import ColdCorrupt, LogClosed, StorageError
from .log import BlocksCallback, Job, NumberCallback
from .streams import ColdFile
from .writer import Worker

__all__ = ["ColdFile", "FileColdStore"]

Schedule = Callable[[Callable[[], None]], None]


class FileColdStore:
    """Cold files in a directory. See :class:`braidmq.storage.log.ColdStore`."""

    def __init__(
        self, disk: Disk, directory: str, *, accept_loss: bool = False, compress: bool = True
    ) -> None:
        """Prepare; nothing is touched."""
        self._disk = disk
        self._directory = directory
        self._accept_loss = accept_loss
        self._compress = compress
        self._reader = ColdReader(disk, directory)  # the worker's
        self._closed = False

    def start(self, worker: Worker, soon: Schedule, report: Schedule) -> None:
        """Read in ``worker``; ``soon`` and ``report`` lead back to the owner's thread."""
        self._worker = worker
        self._soon = soon
        self._report = report

    def close(self) -> None:
        """Close the files. Only after the worker has stopped."""
        self._closed = True
        self._reader.close()

    # In any thread ----------------------------------------------------------------------------

    def begin(self, shard: int, generation: int) -> ColdFileWriter:
        """Begin a file."""
        compressor = Compressor(self._compress)
        return ColdFileWriter(self._disk, self._directory, shard, generation, compressor)

    def write(self, shard: int, generation: int, blocks: Iterable[Block]) -> ColdFile:
        """Write a whole file."""
        writer = self.begin(shard, generation)
        try:
            writer.add(blocks)
            return writer.finish()
        except Exception:
            writer.abandon()
            raise

    def blocks(self, file: ColdFile) -> Iterator[Block]:
        """All blocks of ``file``, in order."""
        reader = ColdReader(self._disk, self._directory)
        try:
            for blocks in reader.frames(file):
                yield from blocks
        finally:
            reader.close()

    def sweep(self, known: Collection[ColdFile]) -> list[ColdFile]:
        """Remove all files but ``known``; return those of ``known`` that are lost."""
        lost = [file for file in known if not self._is_there(file)]
        if lost and not self._accept_loss:
            path = cold_path(self._directory, lost[0])
            raise ColdCorrupt(path, 0, f"it, or its end, is missing, as of {len(lost)} files")
        kept = {cold_path(self._directory, file) for file in known} - {
            cold_path(self._directory, file) for file in lost
        }
        for shard in self._disk.listdir(self._directory):
            if parse_cold_shard(shard) is not None:
                self._sweep_shard(f"{self._directory}/{shard}", kept)
        return lost

    def _is_there(self, file: ColdFile) -> bool:
        try:
            return self._disk.size(cold_path(self._directory, file)) == file.bytes
        except FileNotFoundError:
            return False

    def _sweep_shard(self, directory: str, kept: set[str]) -> None:
        names = self._disk.listdir(directory)
        left = len(names)
        for name in names:
            path = f"{directory}/{name}"
            if path not in kept and (parse_cold_name(name) or name.endswith(".tmp")):
                self._disk.unlink(path)
                left -= 1
        if not left:
            self._disk.rmdir(directory)

    # The owner's ------------------------------------------------------------------------------

    def read(
        self,
        file: ColdFile,
        number: int,
        records_max: int,
        bytes_max: int,
        callback: BlocksCallback,
        argument: object,
    ) -> None:
        """Read the block that holds ``number``, and those behind it in ``file``."""
        read = partial(self._reader.read, file, number, records_max, bytes_max)
        self._ask(read, callback, argument)

    def seek(
        self, file: ColdFile, time_ms: int, callback: NumberCallback, argument: object
    ) -> None:
        """Find the first record appended at ``time_ms`` or later, as a number."""
        self._ask(partial(self._reader.seek, file, time_ms), callback, argument)

    def _ask(
        self, call: Callable[[], object], callback: Callable[..., None], argument: object
    ) -> None:
        if self._closed:
            self._soon(partial(callback, argument, None, LogClosed("the log was closed")))
        else:
            self._worker.submit(partial(self._run, call, callback, argument))

    def _run(
        self, call: Callable[[], object], callback: Callable[..., None], argument: object
    ) -> None:
        """In the worker."""
        result: object = None
        error: StorageError | None = None
        try:
            result = call()
        except StorageError as problem:
            error = problem
        except Exception as problem:  # MemoryError for one: it must not end the thread
            error = StorageError(f"a cold file cannot be read: {problem!r}")
        # By way of soon: what one callback raises is no other's problem.
        self._report(partial(self._soon, partial(callback, argument, result, error)))

    def unlink(self, files: Sequence[ColdFile]) -> Job:
        """A job that removes ``files`` when the reads begun before are done."""
        return partial(self._unlink, tuple(files))

    def _unlink(self, files: tuple[ColdFile, ...]) -> None:
        """In any thread but the worker's."""
        self._worker.submit(partial(self._unlink_now, files))
        self._worker.wait_idle()

    def _unlink_now(self, files: tuple[ColdFile, ...]) -> None:
        """In the worker."""
        for file in files:
            self._reader.forget(file)
            try:
                self._disk.unlink(cold_path(self._directory, file))
            except OSError:
                pass
