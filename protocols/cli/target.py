"""Where the broker is and who asks: from options, environment and contexts to a connection."""

import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import click

from ...broker.config import LISTEN_DEFAULT
from .contexts import load_contexts
from .failures import CommandFailed

if TYPE_CHECKING:
    from ...broker.face import BrokerFace

__all__ = ["Target", "connected", "find_target", "run"]

T = TypeVar("T")


class Target:
    """A broker to talk to. ``address`` is its URL without user and password."""

    __slots__ = ("_password", "address", "ca_file", "user")

    def __init__(self, url: str, user: str = "", password: str = "", ca_file: str = "") -> None:
        try:
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2]
            in_url = (unquote(parts.username or ""), unquote(parts.password or ""))
            correct = bool(parts.hostname) and (parts.port or 0) >= 0 and "://" in url
        except ValueError:
            correct, in_url, host = False, ("", ""), ""
        if not correct:
            raise CommandFailed(
                "the address of the broker is not a URL",
                f"write it like {LISTEN_DEFAULT}",
                2,
                "usage",
            )
        self.address = f"{parts.scheme}://{host}"
        self.ca_file = ca_file
        self.user = user or in_url[0]
        self._password = password or ("" if user and user != in_url[0] else in_url[1])

    def __repr__(self) -> str:
        return f"Target({self.address!r}, user={self.user!r})"

    @property
    def url(self) -> str:
        """The address with user and password, for ``connect``."""
        if not self.user:
            return self.address
        scheme, _, host = self.address.partition("://")
        password = f":{quote(self._password, safe='')}" if self._password else ""
        return f"{scheme}://{quote(self.user, safe='')}{password}@{host}"


def find_target(
    url: str | None,
    context: str | None,
    user: str | None,
    password_file: str | None,
    ca_file: str | None,
) -> Target:
    """--url, else --context, else the context in use, else this machine."""
    if url and context and not _from_environment("context"):
        if _from_environment("url"):
            url = None
        else:
            raise CommandFailed("--url and --context exclude each other", "", 2, "usage")
    if not url:
        contexts = load_contexts()
        name = context or contexts.current
        if name:
            found = contexts.find(name)
            url = found.url
            user = user or found.user
            password_file = password_file or found.password_file
            ca_file = ca_file or found.ca_file
    password = _read_password(password_file) if password_file else ""
    return Target(url or LISTEN_DEFAULT, user or "", password, ca_file or "")


def _from_environment(option: str) -> bool:
    current = click.get_current_context(silent=True)
    source = current.get_parameter_source(option) if current else None
    return source is click.core.ParameterSource.ENVIRONMENT


def _read_password(name: str) -> str:
    if name == "-":
        text = sys.stdin.readline()
    else:
        try:
            text = Path(name).expanduser().read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(
                f"the password file {name!r} cannot be read: {error}", "", 4, "no-password"
            ) from None
    password = text.partition("\n")[0].rstrip("\r")
    if not password:
        raise CommandFailed(f"the password file {name!r} begins with an empty line", "", 4)
    return password


def run(target: Target, work: "Callable[[BrokerFace], Coroutine[Any, Any, T]]") -> T:
    """Connect, do the work, hang up."""
    import asyncio

    async def connect_and_work() -> T:
        async with connected(target) as broker:
            return await work(broker)

    return asyncio.run(connect_and_work())


@asynccontextmanager
async def connected(target: Target) -> "AsyncIterator[BrokerFace]":
    """The broker there, as long as the block lasts."""
    from .. import connect

    tls = None
    if target.ca_file:
        import ssl

        try:
            tls = ssl.create_default_context(cafile=target.ca_file)
        except OSError as error:  # SSLError is one
            raise CommandFailed(
                f"--ca-file {target.ca_file} cannot be used: {error}", "give a PEM file", 2, "usage"
            ) from None
    async with connect(target.url, tls=tls) as broker:
        yield broker
