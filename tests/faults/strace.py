"""System calls that fail, or kill the process, at the n-th time: strace's fault injection."""

import shutil
import subprocess
from functools import cache

__all__ = ["inject", "why_no_strace"]


@cache
def why_no_strace() -> str:
    """Why system calls cannot be tampered with here, or an empty text."""
    if shutil.which("strace") is None:
        return "faults cannot be injected here: strace is missing (apt-get install strace)"
    probe = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "faults cannot be injected here: strace does not come back"
    if done.returncode:
        return f"faults cannot be injected here: {done.stderr.strip()}"
    return ""


def inject(calls: str, what: str, when: str) -> list[str]:
    """The prefix of a command whose system calls ``calls`` suffer ``what`` at ``when``.

    ``when`` is ``3`` for the third call, ``3+`` for that and all that follow. strace counts for
    each thread by itself.
    """
    tampering = f"inject={calls}:{what}:when={when}"
    # Much faster, but strace 6.1 sends no signals with it.
    fast = [] if what.startswith("signal") else ["--seccomp-bpf"]
    return [
        *("strace", "-f", *fast, "-qqq", "-o", "/dev/null"),
        *("-e", f"trace={calls}", "-e", tampering),
    ]
