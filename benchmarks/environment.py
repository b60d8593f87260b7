"""Where figures come from: a number without its machine says nothing."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

__all__ = ["Environment", "describe", "filesystem"]

_PACKAGES = ("braidmq", "uvloop", "msgspec")


class Environment(msgspec.Struct):
    """The machine and the software, as they are now."""

    cpu: str
    cores: int  # that this process may use
    kernel: str
    python: str
    versions: dict[str, str]
    commit: str  # of the checkout that is running, "" for an installed package
    filesystem: str  # of the data directory
    load_average: float  # of the last minute, before the run: who else is busy here


def describe(directory: str) -> Environment:
    """This machine, and the filesystem that ``directory`` is on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return Environment(
        cpu=_cpu(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: _version(name) for name in _PACKAGES},
        commit=_commit(),
        filesystem=filesystem(directory),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
    )


def filesystem(directory: str) -> str:
    """The type of the filesystem that ``directory`` is on; "" when nobody knows."""
    path = os.path.realpath(directory)
    best, found = "", ""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, mount, kind, *_ = line.split(" ")
        below = path == mount or path.startswith(mount.rstrip("/") + "/")
        if below and len(mount) >= len(best):
            best, found = mount, kind
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """The commit of the checkout this file is in, with a + when files were changed."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder.parent:
            return ""
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""
