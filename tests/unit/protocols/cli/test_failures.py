"""The one table of exit statuses: every error has a row, and the documentation has the table."""

import errno
import inspect
import ssl
from pathlib import Path

import click
import pytest

from braidmq.broker import errors as broker_errors
from braidmq.broker.config import ConfigInvalid
from braidmq.protocols.cli.failures import EXIT_STATUS, CommandFailed, failure_of
from braidmq.storage import errors as storage_errors

DOCS = Path(__file__).parents[4] / "docs"


def raised(kind: type[Exception]) -> Exception:
    if kind is storage_errors.Corrupt:
        return storage_errors.Corrupt(17, "bad crc")
    if kind is storage_errors.ColdCorrupt:
        return storage_errors.ColdCorrupt("cold/1.cold", 17, "bad crc")
    return kind("why")


KINDS = [
    kind
    for module in (broker_errors, storage_errors)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_ours_has_a_status_and_a_code(kind):
    failure = failure_of(raised(kind))
    assert failure is not None
    assert failure.exit_status in EXIT_STATUS and failure.exit_status not in (0, 130)
    assert failure.code and failure.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConfigInvalid(["a: b"]), 78, "bad-config"),
        (broker_errors.InvalidArgument("x"), 2, "invalid-argument"),
        (broker_errors.NotFound("x"), 3, "not-found"),
        (broker_errors.Unauthenticated("x"), 4, "unauthenticated"),
        (broker_errors.PermissionDenied("x"), 4, "permission-denied"),
        (broker_errors.Conflict("x"), 5, "conflict"),
        (broker_errors.QueueFull("x"), 1, "queue-full"),
        (broker_errors.Disconnected("x"), 69, "disconnected"),
        (broker_errors.StorageFull("x"), 75, "storage-full"),
        (broker_errors.BrokerFailed("x"), 74, "broker-failed"),
        (storage_errors.Corrupt(1, "x"), 74, "damaged-log"),
        (storage_errors.Locked("x"), 75, "locked"),
        (OSError(errno.EADDRINUSE, "in use"), 75, "port-in-use"),
        (OSError(errno.EIO, "io"), 74, "disk-failed"),
        (OSError(errno.ENOSPC, "full"), 75, "disk-full"),
        (OSError(errno.EXDEV, "strange"), 1, "system"),
        (PermissionError(errno.EACCES, "no"), 4, "no-access"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), 69, "unreachable"),
        (TimeoutError(), 69, "timeout"),
        (FileNotFoundError(errno.ENOENT, "no", "f"), 3, "no-file"),
        (BrokenPipeError(), 141, "broken-pipe"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.UsageError("what?"), 2, "usage"),
        (click.ClickException("no"), 1, "failed"),
        (CommandFailed("no", "do that", 5, "mine"), 5, "mine"),
        (ExceptionGroup("both", [broker_errors.NotFound("x")]), 3, "not-found"),
    ],
)
def test_statuses(error, status, code):
    failure = failure_of(error)
    assert failure is not None and (failure.exit_status, failure.code) == (status, code)
    assert failure.text


@pytest.mark.parametrize(
    ("cause", "step"),
    [
        (ssl.SSLCertVerificationError("unknown issuer"), "--ca-file"),
        (ssl.SSLError("wrong version number"), "TLS"),
        (ConnectionRefusedError("refused"), "is the daemon running"),
        (None, "is the daemon running"),
    ],
)
def test_who_answered_without_the_right_tls_is_not_taken_for_missing(cause, step):
    error = broker_errors.Disconnected("cannot connect")
    error.__cause__ = cause
    failure = failure_of(error)
    assert failure is not None and failure.exit_status == 69 and step in failure.next_step


def test_a_bug_is_no_failure():
    assert failure_of(ValueError("bug")) is None
    assert failure_of(ExceptionGroup("both", [broker_errors.NotFound("x"), ValueError()])) is None


@pytest.mark.parametrize("page", ["cli.md", "operations.md"])
def test_the_documentation_has_the_table(page):
    rows = [f"| {status} | {meaning} |" for status, meaning in EXIT_STATUS.items()]
    assert "\n".join(rows) in (DOCS / page).read_text()
