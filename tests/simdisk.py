"""A disk in memory that loses power: what is not synced may be gone, or half gone.

    disk = SimDisk()
    disk.crash_at = 17          # the 17th call that changes something raises PowerCut
    ...
    disk = disk.after_power_cut(random.Random(seed))    # what a power cut leaves; disk.after_kill()
                                                        # is what the death of a process leaves

What may happen to what was not synced, as POSIX allows it and file systems do it:

- Of the 512-byte sectors written since the last fdatasync any subset survives, in any order; one
  of them may be torn in the middle. Where later ones survived and earlier did not, there are zeros.
- Of the names created, renamed or unlinked since the last fsync_dir any subset of the changes
  survives.
- After an fdatasync that failed the sectors count as clean: they read back, and are never written.

``StepWorker`` and ``StepScheduler`` stand in for the threads and the event loop: things happen when
the test says so.
"""

import errno
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from braidmq.storage.errors import Locked
from braidmq.storage.log import Job

__all__ = ["SECTOR", "PowerCut", "SimDisk", "StepScheduler", "StepWorker", "run_steps"]

SECTOR = 512


class PowerCut(BaseException):
    """The machine has stopped; nothing of the process goes on."""


class _File:
    """What a name stands for."""

    def __init__(self) -> None:
        self.data = bytearray()  # as the page cache has it
        self.stable = bytearray()  # as the platter has it
        self.dirty: set[int] = set()  # sectors that differ, and will be written some day

    def sync(self) -> None:
        size = len(self.data)
        if len(self.stable) < size:
            self.stable.extend(bytes(size - len(self.stable)))
        for sector in self.dirty:
            at = sector * SECTOR
            self.stable[at : at + SECTOR] = self.data[at : at + SECTOR]
        del self.stable[size:]
        self.dirty.clear()

    def survive(self, rng: random.Random) -> "_File":
        """What a power cut leaves of it."""
        kept = [sector for sector in sorted(self.dirty) if rng.random() < 0.5]
        if rng.random() < 0.2:
            kept = sorted(self.dirty)
        torn = rng.choice(kept) if kept and rng.random() < 0.5 else -1
        result = bytearray(self.stable)
        if rng.random() < 0.3 and len(self.data) > len(result):
            result.extend(bytes(len(self.data) - len(result)))  # the size got there, not the data
        for sector in kept:
            at = sector * SECTOR
            piece = self.data[at : at + SECTOR]
            if sector == torn:
                piece = piece[: rng.randrange(len(piece) + 1)]
            if len(result) < at + len(piece):
                result.extend(bytes(at + len(piece) - len(result)))
            result[at : at + len(piece)] = piece
        file = _File()
        file.data = bytearray(result)
        file.stable = result
        return file


class SimDisk:
    """A ``Disk`` in memory. See the module."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity  # bytes; None: endless
        self.reserved: dict[_File, int] = {}  # by fallocate
        self.calls = 0  # that change something
        self.trace: list[str] = []  # what they were
        self.crash_at = -1  # the call, counted from 0, at which power is cut
        self.fail_at: dict[int, int] = {}  # call -> errno
        self.fail_reads: dict[int, int] = {}  # read call -> errno
        self.faults: Counter[str] = Counter()  # what was injected and did fire
        self.reads = 0
        self.dead = False
        self.locks: set[str] = set()
        self.notes: dict[str, str] = {}
        self._directories: set[str] = set()
        self._names: dict[str, _File] = {}
        self._stable_names: dict[str, _File] = {}
        self._changes: list[tuple[str, str, str, _File | None]] = []  # not synced yet
        self._handles: dict[int, _File | str] = {}
        self._next_handle = 3

    # Faults -----------------------------------------------------------------------------------

    def _step(self, what: str) -> bool:
        """Count a call; True when power is cut in the middle of it. Raises an injected error."""
        if self.dead:
            raise PowerCut
        call = self.calls
        self.calls += 1
        self.trace.append(what)
        if call in self.fail_at:
            number = self.fail_at[call]
            self.faults[f"{what.split()[0]} {errno.errorcode[number]}"] += 1
            raise OSError(number, f"injected at call {call}", what)
        if call == self.crash_at:
            self.faults["power cut"] += 1
            self.dead = True
            return True
        return False

    def after_kill(self) -> "SimDisk":
        """The same disk after the process died: the page cache is still there."""
        disk = SimDisk(self.capacity)
        disk._directories = set(self._directories)
        copies: dict[int, _File] = {}

        def copied(file: _File | None) -> _File:
            assert file is not None
            if id(file) not in copies:
                copy = copies[id(file)] = _File()
                copy.data, copy.stable = bytearray(file.data), bytearray(file.stable)
                copy.dirty = set(file.dirty)
                if file in self.reserved:
                    disk.reserved[copy] = self.reserved[file]
            return copies[id(file)]

        disk._names = {name: copied(file) for name, file in self._names.items()}
        disk._stable_names = {name: copied(file) for name, file in self._stable_names.items()}
        disk._changes = [
            (kind, source, target, None if file is None else copied(file))
            for kind, source, target, file in self._changes
        ]
        return disk

    def after_power_cut(self, rng: random.Random) -> "SimDisk":
        """The disk as it is found when power is back."""
        disk = SimDisk(self.capacity)
        disk._directories = set(self._directories)
        names = dict(self._stable_names)
        for kind, source, target, file in self._changes:
            if rng.random() < 0.5:
                continue
            if kind == "unlink":
                names.pop(source, None)
            elif kind == "create":
                assert file is not None
                names[source] = file
            else:
                assert file is not None
                names.pop(source, None)
                names[target] = file
        survivors: dict[_File, _File] = {}
        for name, file in names.items():
            if file not in survivors:
                survivors[file] = file.survive(rng)
                if file in self.reserved:
                    disk.reserved[survivors[file]] = self.reserved[file]
            disk._names[name] = disk._stable_names[name] = survivors[file]
        return disk

    # The protocol -----------------------------------------------------------------------------

    def makedirs(self, path: str) -> None:
        if path not in self._directories:
            if self._step(f"makedirs {path}"):
                raise PowerCut
            while path not in self._directories and path.strip("/"):
                self._directories.add(path)
                path = path.rpartition("/")[0]

    def rmdir(self, path: str) -> None:
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        if self.listdir(path):
            raise OSError(errno.ENOTEMPTY, "not empty", path)
        if self._step(f"rmdir {path}"):
            raise PowerCut
        self._directories.discard(path)

    def _handle(self, file: "_File | str") -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = file
        return self._next_handle

    def create(self, path: str) -> int:
        cut = self._step(f"create {path}")
        if path in self._names:
            raise FileExistsError(errno.EEXIST, "exists", path)
        file = self._names[path] = _File()
        self._changes.append(("create", path, "", file))
        if cut:
            raise PowerCut
        return self._handle(file)

    def open(self, path: str) -> int:
        if self.dead:
            raise PowerCut
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self._handle(self._names[path])

    def close(self, handle: int) -> None:
        file = self._handles.pop(handle)
        if isinstance(file, str):
            self.locks.discard(file)

    def pwrite(self, handle: int, offset: int, buffers: Sequence[bytes]) -> None:
        data = b"".join(buffers)
        file = self._handles[handle]
        if isinstance(file, str):
            return
        cut = self._step(f"pwrite {len(data)} at {offset}")
        room = None if self.capacity is None else max(self.free_bytes("") + self._slack(file), 0)
        grows = max(offset + len(data) - len(file.data), 0)
        whole = room is None or grows <= room
        if not whole:
            assert room is not None
            data = data[: max(len(data) - (grows - room), 0)]
        end = offset + len(data)
        if len(file.data) < end:
            file.data.extend(bytes(end - len(file.data)))
        file.data[offset:end] = data
        if data:
            file.dirty.update(range(offset // SECTOR, (end - 1) // SECTOR + 1))
        if cut:
            raise PowerCut
        if not whole:
            self.faults["pwrite full"] += 1
            raise OSError(errno.ENOSPC, "full", str(offset))

    def pwrite_durable(self, handle: int, offset: int, buffers: Sequence[bytes]) -> None:
        """As a write and a sync of that range: power can be cut, and either fail, in between."""
        file = self._handles[handle]
        assert isinstance(file, _File)
        before, file.dirty = file.dirty, set()
        try:
            self.pwrite(handle, offset, buffers)
            self.fdatasync(handle)
        finally:
            file.dirty |= before

    def pread(self, handle: int, offset: int, size: int) -> bytes:
        if self.dead:
            raise PowerCut
        read = self.reads
        self.reads += 1
        if read in self.fail_reads:
            self.faults["pread"] += 1
            raise OSError(self.fail_reads[read], f"injected at read {read}")
        file = self._handles[handle]
        assert isinstance(file, _File)
        return bytes(file.data[offset : offset + size])

    def fdatasync(self, handle: int) -> None:
        file = self._handles[handle]
        assert isinstance(file, _File)
        try:
            cut = self._step("fdatasync")
        except OSError:
            file.dirty.clear()  # the kernel marks the pages clean, and forgets that they are not
            raise
        if cut:
            raise PowerCut
        file.sync()

    def fsync_dir(self, path: str) -> None:
        if self._step(f"fsync_dir {path}"):
            raise PowerCut
        prefix = path + "/"
        rest: list[tuple[str, str, str, _File | None]] = []
        for change in self._changes:
            kind, source, target, file = change
            if source.rpartition("/")[0] + "/" != prefix:
                rest.append(change)
                continue
            if kind == "create":
                assert file is not None
                self._stable_names[source] = file
            else:
                self._stable_names.pop(source, None)
                if kind == "rename":
                    assert file is not None
                    self._stable_names[target] = file
        self._changes[:] = rest

    def rename(self, source: str, target: str) -> None:
        cut = self._step(f"rename {source} {target}")
        file = self._names.pop(source)
        self._names[target] = file
        self._changes.append(("rename", source, target, file))
        if cut:
            raise PowerCut

    def unlink(self, path: str) -> None:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        cut = self._step(f"unlink {path}")
        self.reserved.pop(self._names.pop(path), None)
        self._changes.append(("unlink", path, "", None))
        if cut:
            raise PowerCut

    def listdir(self, path: str) -> list[str]:
        if self.dead:
            raise PowerCut
        prefix = path + "/"
        names = self._directories.union(self._names)
        found = (name[len(prefix) :] for name in names if name.startswith(prefix))
        return sorted(name for name in found if "/" not in name)

    def size(self, path: str) -> int:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        file = self._names[path]
        return max(len(file.data), self.reserved.get(file, 0))

    def _slack(self, file: _File) -> int:
        return max(self.reserved.get(file, 0) - len(file.data), 0)

    def fallocate(self, handle: int, size: int) -> None:
        file = self._handles[handle]
        assert isinstance(file, _File)
        if self._step(f"fallocate {size}"):
            raise PowerCut
        if self.capacity is not None and self.free_bytes("") < size:
            raise OSError(errno.ENOSPC, "full")
        self.reserved[file] = size

    def free_bytes(self, path: str) -> int:
        if self.capacity is None:
            return 1 << 50
        files = set(self._names.values())
        used = sum(max(len(file.data), self.reserved.get(file, 0)) for file in files)
        return max(self.capacity - used, 0)

    def random(self, size: int) -> bytes:
        return bytes(range(1, size + 1))

    def lock(self, path: str) -> int:
        if path in self.locks:
            raise Locked(f"{path}: held")
        if self.dead:
            raise PowerCut
        self.locks.add(path)
        return self._handle(path)

    def holder(self, path: str) -> str:
        return self.notes.get(path, "held") if path in self.locks else ""

    def note(self, lock: int, text: str) -> None:
        path = self._handles[lock]
        assert isinstance(path, str)
        self.notes[path] = text

    # For tests --------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All files."""
        return sorted(self._names)

    def content(self, path: str) -> bytearray:
        """The bytes of a file, to be looked at or damaged in place."""
        return self._names[path].data

    def damage(self, path: str, offset: int, bit: int = 0) -> None:
        """Flip a bit, as rot does: in the page cache and below it."""
        for data in (self._names[path].data, self._names[path].stable):
            if offset < len(data):
                data[offset] ^= 1 << bit

    def replace(self, path: str, content: bytes) -> None:
        """Put ``content`` in place of what a file has, durably."""
        file = self._names[path]
        file.data = bytearray(content)
        file.stable = bytearray(content)
        file.dirty.clear()

    def remove(self, path: str) -> None:
        """Take a file away, durably."""
        del self._names[path]
        self._stable_names.pop(path, None)

    def copy(self) -> "SimDisk":
        """The same files, all durable, on another disk."""
        disk = SimDisk(self.capacity)
        disk._directories = set(self._directories)
        for name, file in self._names.items():
            other = _File()
            other.data = bytearray(file.data)
            other.stable = bytearray(file.data)
            disk._names[name] = disk._stable_names[name] = other
            if file in self.reserved:
                disk.reserved[other] = self.reserved[file]
        return disk


class StepWorker:
    """A worker that does what it was given when it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: deque[Callable[[], None]] = deque()

    def submit(self, task: Callable[[], None]) -> None:
        self.tasks.append(task)

    def step(self) -> bool:
        """Run one task; False when there was none."""
        if not self.tasks:
            return False
        self.tasks.popleft()()
        return True

    def wait_idle(self) -> None:
        while self.step():
            pass

    def stop(self) -> None:
        self.wait_idle()


class StepScheduler:
    """An event loop that turns when it is told to."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.now = now_ms
        self._calls: deque[Callable[[], None]] = deque()

    def soon(self, callback: Callable[[], None]) -> None:
        self._calls.append(callback)

    def soon_from_thread(self, callback: Callable[[], None]) -> None:
        self._calls.append(callback)

    def later(self, delay_ms: int, callback: Callable[[], None]) -> None:
        self._calls.append(callback)  # it has no time to lose

    def now_ms(self) -> int:
        return self.now

    def step(self) -> bool:
        """Run one callback; False when there was none."""
        if not self._calls:
            return False
        self._calls.popleft()()
        return True


def run_steps(jobs: Iterator[Job], between: Callable[[], object] = lambda: None) -> None:
    """Run a checkpoint, a compaction, the housekeeping; ``between`` is called after each step."""
    for job in jobs:
        if job is not None:
            job()
        between()
