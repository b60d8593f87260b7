"""What a message costs in system calls and in instructions: counts, which do not vary as times do.

System calls are counted by ``strace -c -f``, instructions by ``valgrind --tool=callgrind``,
which runs the broker fifty times as slowly, and counts the same for the same work, whatever else
the machine does. Both see the broker's process only, and callgrind nothing of the kernel.
"""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from .peer import find_program

__all__ = [
    "CountingFailed",
    "Instructions",
    "SystemCalls",
    "by_object",
    "callgrind_prefix",
    "parse_strace",
]

_ATTACH_SECONDS: Final = 20.0
_STEP_SECONDS: Final = 0.01
_TOOL_SECONDS: Final = 120.0
_PACKAGES: Final = {"strace": "strace", "valgrind": "valgrind", "callgrind_control": "valgrind"}

# A line of strace's table: % time, seconds, usecs/call, calls, errors (or nothing), name.
_ROW: Final = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*")
_COST: Final = re.compile(r"(?:[+*-]?\d+|\*|0x[0-9a-f]+) (\d+)")
_OBJECT: Final = re.compile(r"ob=\((\d+)\)(?: (.*))?")


class CountingFailed(Exception):
    """A tool is not installed, or did not do its part."""


def _program(name: str) -> str:
    if not (path := find_program(name)):
        package = _PACKAGES[name]
        raise CountingFailed(f"{name} is not installed (apt install {package})")
    return path


class SystemCalls:
    """``with SystemCalls(pid, directory) as calls: ...``, then ``calls.counts`` by name.

    Raises CountingFailed.
    """

    def __init__(self, pid: int, directory: str) -> None:
        self.counts: Counter[str] = Counter()
        self._pid = pid
        self._file = Path(directory, "strace.txt")
        self._strace: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SystemCalls":
        command = [_program("strace"), "-c", "-f", "-p", str(self._pid), "-o", str(self._file)]
        self._strace = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        end = time.monotonic() + _ATTACH_SECONDS
        while not self._is_attached():
            if self._strace.poll() is not None or time.monotonic() > end:
                self._strace.kill()
                words = self._strace.communicate()[1].decode(errors="replace").strip()
                raise CountingFailed(f"strace could not attach: {words or 'no answer'}")
            time.sleep(_STEP_SECONDS)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._strace is not None:
            self._strace.send_signal(signal.SIGINT)
            self._strace.communicate(timeout=_TOOL_SECONDS)
            self.counts = parse_strace(self._file.read_text())

    def _is_attached(self) -> bool:
        """Whether every thread is traced."""
        threads = list(Path(f"/proc/{self._pid}/task").glob("*/status"))
        try:
            free = [each for each in threads if "\nTracerPid:\t0\n" in each.read_text()]
            return bool(threads) and not free
        except OSError:  # one ended
            return False


def parse_strace(text: str) -> Counter[str]:
    """How often each call was made, from the table that ``strace -c`` writes."""
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        found = _ROW.fullmatch(line)
        if found and found[2] != "total":
            counts[found[2]] += int(found[1])
    return counts


def callgrind_prefix(directory: str) -> tuple[str, ...]:
    """What starts a program under callgrind. Raises CountingFailed."""
    out = os.path.join(directory, "callgrind.out")
    return (_program("valgrind"), "-q", "--tool=callgrind", f"--callgrind-out-file={out}")


class Instructions:
    """``with Instructions(pid, directory) as counted: ...``: of a process under callgrind.

    ``directory`` is the one that :func:`callgrind_prefix` was given. Raises CountingFailed.

    Attributes:
        objects: instructions executed within the block, by the library or program they belong to.
    """

    def __init__(self, pid: int, directory: str) -> None:
        self.objects: Counter[str] = Counter()
        self._pid = pid
        self._directory = Path(directory)

    def __enter__(self) -> "Instructions":
        self._control("--zero")
        return self

    def __exit__(self, *exception: object) -> None:
        before = set(self._files())
        self._control("--dump")
        fresh = [path for path in self._files() if path not in before]
        if not fresh:
            raise CountingFailed("callgrind has written nothing")
        for path in fresh:
            self.objects += by_object(path.read_text(errors="replace").splitlines())
            path.unlink()

    def _files(self) -> Sequence[Path]:
        return sorted(self._directory.glob("callgrind.out.*"))

    def _control(self, order: str) -> None:
        command = [_program("callgrind_control"), order, str(self._pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS)
        if done.returncode or "Error" in done.stdout + done.stderr:
            raise CountingFailed(f"callgrind_control: {(done.stderr or done.stdout).strip()}")


def by_object(lines: Iterable[str]) -> Counter[str]:
    """Instructions by file name of library or program, from what callgrind wrote.

    Source: Valgrind's manual, "Callgrind Format Specification". What a called function cost is
    counted where it is, so the line behind ``calls=`` is passed over.
    """
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    current, is_call = "", False
    for line in lines:
        if is_call:
            is_call = False
        elif line.startswith("calls="):
            is_call = True
        elif found := _OBJECT.fullmatch(line):
            number, path = found.groups()
            if path is not None:
                names[number] = os.path.basename(path)
            current = names.get(number, "")
        elif line.startswith("cob=("):
            number, _, path = line[len("cob=(") :].partition(")")
            if path:
                names[number] = os.path.basename(path.strip())
        elif found := _COST.fullmatch(line):
            counts[current] += int(found[1])
    return counts
