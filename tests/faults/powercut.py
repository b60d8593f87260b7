"""A disk of our own that loses power: a file system in a file, and the kernel's shutdown ioctl.

The ioctl stops the file system at once and forgets what was not written, as a power cut does; after
umount and mount there is what fdatasync and the journal had brought to the disk, and nothing else.

Needs Linux, root and loop devices; ``why_not`` says in a sentence what is missing.
"""

import ctypes
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from .stream_planting import SYNCED_APART, planted

if sys.platform == "linux":
    import fcntl

__all__ = [
    "IMAGE_SIZES",
    "LossyDisk",
    "lossy_disk",
    "lying_disk",
    "tmpfs",
    "why_no_lies",
    "why_no_mount",
    "why_not",
]

IMAGE_SIZES = {"ext4": "96M", "xfs": "320M"}  # sparse; xfs makes none smaller than 300 MiB
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
_NO_LOG_FLUSH = 2  # as a power cut: not even the journal is written
_WRITE_AND_WAIT = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | WRITE | WAIT_AFTER


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as late:
        raise OSError(f"{command[0]} does not come back") from late
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@cache
def why_no_mount() -> str:
    """Why nothing can be mounted here, or an empty text."""
    if sys.platform != "linux":
        return "mounting needs Linux"
    if os.geteuid() != 0:
        return "mounting needs root, and this is not root"
    try:
        with tempfile.TemporaryDirectory() as scratch, tmpfs(Path(scratch) / "probe", "1m"):
            return ""
    except OSError as error:  # a container that only looks like root
        return str(error)


@cache
def why_not(kind: str) -> str:
    """Why a power cut on a ``kind`` of file system cannot be made here, or an empty text."""
    if reason := why_no_mount():
        return f"a power cut cannot be made here: {reason}"
    if shutil.which(f"mkfs.{kind}") is None:
        return f"a power cut on {kind} cannot be made here: mkfs.{kind} is missing"
    try:
        with tempfile.TemporaryDirectory() as scratch, lossy_disk(kind, Path(scratch)) as disk:
            disk.cut()
            return ""
    except OSError as error:
        return f"a power cut on {kind} cannot be made here: {error}"


@contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    """A small disk in memory, to be filled up."""
    directory.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        _run("umount", "--lazy", str(directory))


class LossyDisk:
    """A file system on a loop device, mounted at ``path``."""

    def __init__(self, kind: str, image: Path, path: Path) -> None:
        self.path = path
        self._image = image
        _run("truncate", "-s", IMAGE_SIZES[kind], str(image))
        _run(f"mkfs.{kind}", "-q", str(image))
        path.mkdir()

    def mount(self) -> None:
        """Power is on."""
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def umount(self) -> None:
        """Nobody uses it any more."""
        _run("umount", str(self.path))

    def release(self) -> None:
        """However it stands, leave nothing mounted."""
        # Not os.path.ismount: on a file system that was shut down, looking is an error.
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        if str(self.path) in mounted:
            _run("umount", "--lazy", str(self.path))

    def cut(self) -> None:
        """Power goes off, now. What is not on the disk never will be."""
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._insist(handle)
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def _insist(self, handle: int) -> None:
        """Never shut down anything but our own image, whatever went wrong before."""
        device = os.fstat(handle).st_dev
        backing = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file")
        if not os.path.ismount(self.path) or not backing.exists():
            raise OSError(f"{self.path} is not on a loop device of ours")
        if Path(backing.read_text().strip()).resolve() != self._image.resolve():
            raise OSError(f"{self.path} is on {backing.read_text().strip()}")

    def write_back(self, directory: Path, rng: random.Random) -> None:
        """Have the kernel write some page of some file now, in no order, as it may at any time."""
        files = [path for path in directory.glob("*/*") if path.is_file()]
        if not files:
            return
        path = rng.choice(files)
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            pages = os.fstat(handle).st_size // 4096 + 1
            first = rng.randrange(pages)
            count = rng.randint(1, pages - first)
            libc = ctypes.CDLL(None, use_errno=True)
            libc.sync_file_range.argtypes = [
                *(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
            ]
            libc.sync_file_range(handle, first * 4096, count * 4096, _WRITE_AND_WAIT)
        finally:
            os.close(handle)


@contextmanager
def lossy_disk(kind: str, scratch: Path) -> Iterator[LossyDisk]:
    """A disk that is mounted now, and certainly not any more at the end."""
    disk = LossyDisk(kind, scratch / f"{kind}.img", scratch / f"{kind}.mounted")
    try:
        disk.mount()
        yield disk
    finally:
        disk.release()


@cache
def why_no_lies() -> str:
    """Why no disk can be made to lie here, or an empty text."""
    if any(map(shutil.which, ("cc", "gcc", "clang", "eatmydata", "strace"))):
        return ""
    return "no negative control: none of cc, eatmydata and strace is here"


def lying_disk(scratch: Path) -> tuple[Sequence[str], Mapping[str, str]]:
    """A command prefix and an environment in which nothing is ever synced."""
    apart = planted(scratch, SYNCED_APART)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is not None:
        library = scratch / "nosync.so"
        source = Path(__file__).with_name("nosync.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        return (), {"LD_PRELOAD": str(library), **apart}
    if shutil.which("eatmydata"):
        return ("eatmydata",), apart
    inject = ("-e", "inject=fdatasync,fsync:retval=0")
    return ("strace", "-f", "-qqq", "-o", "/dev/null", *inject), apart
