"""Files, behind a seam: the only module of this layer that calls the operating system.

``RealDisk`` is the system; ``tests/simdisk.py`` loses power, tears sectors and fails the n-th call.

Rules:

- Nothing here retries or swallows an error of the system: what a failed write or fdatasync means
  is decided in ``writer.py`` and nowhere else.
- Files are 0600 and directories 0700: what is queued is nobody else's business.
- A file is on stable storage after ``fdatasync`` of it, its name after ``fsync_dir`` of its
  directory. Callers do both, in this order. ``pwrite_durable`` is for what was all durable before.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from .errors import Locked

if sys.platform != "win32":
    import fcntl

__all__ = ["Disk", "RealDisk"]

_JOIN_BYTES_MAX = 128 * 1024  # below this, one copy costs less than many iovecs
_BUFFERS_MAX = 1024  # IOV_MAX of Linux


class Disk(Protocol):
    """What the storage layer asks of a file system. Handles are small integers."""

    def makedirs(self, path: str) -> None:
        """Create the directory and its parents where they are missing, durably."""

    def create(self, path: str) -> int:
        """Create a file that must not exist yet, and open it for reading and writing."""

    def open(self, path: str) -> int:
        """Open an existing file for reading."""

    def close(self, handle: int) -> None:
        """Forget a handle."""

    def pwrite(self, handle: int, offset: int, buffers: Sequence[bytes]) -> None:
        """Write all the buffers, back to back, from ``offset`` on, or raise OSError."""

    def pwrite_durable(self, handle: int, offset: int, buffers: Sequence[bytes]) -> None:
        """Do what ``pwrite`` does, and have it on stable storage; not what was written before."""

    def pread(self, handle: int, offset: int, size: int) -> bytes:
        """Read ``size`` bytes, fewer only where the file ends."""

    def fdatasync(self, handle: int) -> None:
        """Wait until what was written to the file is on stable storage."""

    def fsync_dir(self, path: str) -> None:
        """Wait until the names in the directory are on stable storage."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, replacing what had it."""

    def unlink(self, path: str) -> None:
        """Remove a name."""

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, of files and directories; empty when there is none."""

    def size(self, path: str) -> int:
        """The size of a file in bytes."""

    def fallocate(self, handle: int, size: int) -> None:
        """Reserve ``size`` bytes for a file, so that they are taken from what is free."""

    def free_bytes(self, path: str) -> int:
        """How much more can be written to the file system of ``path``."""

    def random(self, size: int) -> bytes:
        """Bytes that nobody can guess."""

    def lock(self, path: str) -> int:
        """Take the exclusive lock file; return a handle, which ``close`` gives up again.

        Raises:
            Locked: somebody has it.
        """

    def holder(self, path: str) -> str:
        """Who has the lock file, found out by trying, for an instant; "" when nobody."""

    def note(self, lock: int, text: str) -> None:
        """Write into the lock file, for people: this process, and ``text``."""


class RealDisk:
    """The operating system's files."""

    # A POSIX lock belongs to the process: a second open in the same process would succeed, and
    # closing it would drop the lock of the first. So what this process holds is noted here.
    _held: dict[tuple[int, int], int] = {}
    _dsync = getattr(os, "RWF_DSYNC", 0)  # one call instead of two; Linux has it

    def makedirs(self, path: str) -> None:
        path = os.path.abspath(path)
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self.makedirs(parent)
        os.mkdir(path, 0o700)
        try:
            self.fsync_dir(parent)
        except OSError:
            os.rmdir(path)  # else the next call would take it for durable
            raise

    def create(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, handle: int) -> None:
        os.close(handle)
        for key, held in list(self._held.items()):
            if held == handle:
                del self._held[key]

    def pwrite(self, handle: int, offset: int, buffers: Sequence[bytes]) -> None:
        self._pwrite(handle, offset, buffers, 0)

    def pwrite_durable(self, handle: int, offset: int, buffers: Sequence[bytes]) -> None:
        if not self._dsync or len(buffers) > _BUFFERS_MAX:
            self.pwrite(handle, offset, buffers)
            self.fdatasync(handle)
            return
        try:
            self._pwrite(handle, offset, buffers, self._dsync)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            self._dsync = 0  # the kernel knows no such flag or call, and has written nothing
            self.pwrite_durable(handle, offset, buffers)

    def _pwrite(self, handle: int, offset: int, buffers: Sequence[bytes], flags: int) -> None:
        total = sum(map(len, buffers))
        if total <= _JOIN_BYTES_MAX:
            buffers = (b"".join(buffers),)
        for first in range(0, len(buffers), _BUFFERS_MAX):
            views = [memoryview(buffer) for buffer in buffers[first : first + _BUFFERS_MAX]]
            while views:
                written = os.pwritev(handle, views, offset, flags)
                offset += written
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]

    def pread(self, handle: int, offset: int, size: int) -> bytes:
        data = os.pread(handle, size, offset)
        while 0 < len(data) < size:
            more = os.pread(handle, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def fdatasync(self, handle: int) -> None:
        if sys.platform == "darwin":
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # fsync there leaves it in the drive's cache
        else:
            os.fdatasync(handle)

    def fsync_dir(self, path: str) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def listdir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def fallocate(self, handle: int, size: int) -> None:
        if sys.platform == "darwin":
            os.ftruncate(handle, size)
        else:
            os.posix_fallocate(handle, 0, size)

    def free_bytes(self, path: str) -> int:
        state = os.statvfs(path)
        return state.f_bavail * state.f_frsize

    def random(self, size: int) -> bytes:
        return os.urandom(size)

    def lock(self, path: str) -> int:
        try:
            state = os.stat(path)
        except FileNotFoundError:
            pass
        else:
            if (state.st_dev, state.st_ino) in self._held:
                raise Locked(f"{path}: this process has it open already")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise Locked(f"{path}: held by another process ({self.holder(path)})") from None
        state = os.fstat(handle)
        self._held[(state.st_dev, state.st_ino)] = handle
        self.note(handle, "opening")
        return handle

    def holder(self, path: str) -> str:
        try:
            state = os.stat(path)
        except FileNotFoundError:
            return ""
        if (state.st_dev, state.st_ino) in self._held:
            return "this process"  # opening and closing it here would drop the lock
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return ""
        except OSError:
            return os.pread(handle, 100, 0).decode("ascii", "replace").strip() or "unknown"
        finally:
            os.close(handle)

    def note(self, lock: int, text: str) -> None:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"pid {os.getpid()} {text}\n".encode("ascii"), 0)
