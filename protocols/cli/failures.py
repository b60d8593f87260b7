"""What a failure means to the caller of a command: its exit status, its cause, the next step.

One table, for the client commands and the daemon alike; docs/cli.md and docs/operations.md repeat
it, and a test compares them.
"""

import errno
from functools import cache
from typing import NamedTuple

import click

__all__ = ["EXIT_STATUS", "CommandFailed", "Failure", "failure_of"]

EXIT_STATUS = {
    0: "done",
    1: "failed: a limit was reached, a lease was lost, a check found something",
    2: "usage: an option, an argument or a value is wrong",
    3: "not found: no such queue, context or file",
    4: "not allowed: wrong user or password, or no right to do that",
    5: "conflict: exists with other settings, or is in use",
    69: "unreachable: no broker answers there, or the connection was lost",
    70: "the daemon's loop was blocked for 30 seconds, so it ended itself",
    74: "damaged log or failed disk",
    75: "try again later: the data directory or the port is in use, or there is no room",
    78: "the configuration is wrong",
    130: "interrupted by Ctrl-C",
    141: "whoever read the output went away",
}


class CommandFailed(click.ClickException):
    """A command cannot do what it was asked to, and says what to do next."""

    def __init__(self, text: str, next_step: str = "", exit_code: int = 1, code: str = "") -> None:
        super().__init__(text)
        self.next_step = next_step
        self.status = exit_code
        self.code = code or "failed"


class Failure(NamedTuple):
    """A failure as the caller gets to know it."""

    exit_status: int
    code: str  # stable, for programs
    text: str
    next_step: str


_Row = tuple[type[Exception], int, str, str]


@cache
def _errors() -> tuple[_Row, ...]:
    """(type, exit status, code or "" for the error's own, next step). The first that matches.

    A function, so that the packages are loaded when something failed, not to print a help.
    """
    from ...broker import errors as broker
    from ...broker.config import ConfigInvalid
    from ...storage import errors as storage

    running = "is the daemon running there? braidmq serve starts it"
    return (
        (ConfigInvalid, 78, "bad-config", "braidmq config check shows every problem"),
        (broker.InvalidArgument, 2, "", "see --help of the command"),
        (broker.NotFound, 3, "", "braidmq queue ls, stream ls and topic ls show what there is"),
        (broker.Unauthenticated, 4, "", "give --user and --password-file, or use a context"),
        (broker.PermissionDenied, 4, "", "ask for a rule that allows it"),
        (broker.Conflict, 5, "", "braidmq queue show or stream show tells what it is"),
        (broker.LeaseLost, 1, "", "receive it again, and hold it for longer"),
        (broker.Throttled, 1, "", "try again in a moment, or raise the rates of the stream"),
        (broker.LimitExceeded, 1, "", "make room, or raise the limit"),
        (broker.Disconnected, 69, "", running),
        (broker.Unavailable, 75, "", "try again later"),
        (broker.BrokerFailed, 74, "", "look into the daemon's log, check the disk, restart it"),
        (broker.BraidError, 1, "", ""),
        (storage.Corrupt, 74, "damaged-log", "restore a backup; --accept-loss starts without it"),
        (storage.Locked, 75, "locked", "stop the other daemon, or use another data directory"),
        (storage.DiskFull, 75, "disk-full", "make room on the disk"),
        (storage.LogFailed, 74, "disk-failed", "check the disk, then restart the daemon"),
        (storage.FormatUnknown, 74, "format-unknown", "use the version that wrote it, or later"),
        (storage.StorageError, 74, "storage", "braidmq log verify looks into a data directory"),
        (TimeoutError, 69, "timeout", "is the broker busy, or the address wrong?"),
        (BrokenPipeError, 141, "broken-pipe", ""),
        (ConnectionError, 69, "unreachable", running),
        (FileNotFoundError, 3, "no-file", ""),
    )


_SYSTEM_ERRORS: dict[int, tuple[int, str, str]] = {
    errno.EADDRINUSE: (75, "port-in-use", "stop what listens there, or give another --listen URL"),
    errno.EADDRNOTAVAIL: (78, "bad-address", "listen on an address that this machine has"),
    errno.EACCES: (4, "no-access", "check owner and permissions"),
    errno.EPERM: (4, "no-access", "check owner and permissions"),
    errno.EIO: (74, "disk-failed", "check the disk"),
    errno.EROFS: (74, "disk-failed", "the file system is read-only"),
    errno.ENOSPC: (75, "disk-full", "make room on the disk"),
    errno.EDQUOT: (75, "disk-full", "make room on the disk"),
    errno.EHOSTUNREACH: (69, "unreachable", "check the address and the network"),
    errno.ENETUNREACH: (69, "unreachable", "check the address and the network"),
}


def failure_of(error: BaseException) -> Failure | None:
    """The failure that an error means, or None when it is a bug of ours."""
    if isinstance(error, CommandFailed):
        return Failure(error.status, error.code, error.message, error.next_step)
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "braidmq"
        return Failure(2, "usage", error.format_message(), f"{where} --help")
    if isinstance(error, click.ClickException):
        return Failure(error.exit_code, "failed", error.format_message(), "")
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Failure(130, "interrupted", "interrupted", "")
    if isinstance(error, BaseExceptionGroup):
        known = [failure_of(inner) for inner in error.exceptions]
        return next((found for found in known if found), None) if all(known) else None
    return _table_failure(error)


def _tls_step(cause: BaseException | None) -> str:
    """What to do when somebody answered, but not as braids:// asks for; empty: it is not that."""
    if not isinstance(cause, OSError):
        return ""
    import ssl

    if isinstance(cause, ssl.SSLCertVerificationError):
        return "--ca-file names who signed the certificate; it must be for this host's name"
    if isinstance(cause, ssl.SSLError):
        return "does it listen with TLS there? braid:// is without"
    return ""


def _table_failure(error: BaseException) -> Failure | None:
    for kind, status, code, next_step in _errors():
        if isinstance(error, kind):
            code = code or str(getattr(error, "code", "failed"))
            next_step = _tls_step(error.__cause__) or next_step
            return Failure(status, code, str(error) or kind.__name__, next_step)
    if isinstance(error, OSError):
        found = _SYSTEM_ERRORS.get(error.errno or 0, (1, "system", ""))
        return Failure(found[0], found[1], str(error), found[2])
    return None
