"""``braidmq version``, ``ping`` and ``health``."""

import platform
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .options import common, duration, examples, remote
from .output import Output, readable_bytes, readable_ms
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace

__all__ = ["health", "ping", "version"]


@click.command("version", epilog=examples("braidmq version --json"))
@common
def version(output: Output) -> None:
    """Print versions."""
    versions = {"braidmq": _version_of("braidmq"), "python": platform.python_version()}
    for name in ("anyio", "click", "msgspec", "uvloop"):
        versions[name] = _version_of(name)
    versions["platform"] = f"{sys.platform} {platform.machine()}"
    if output.quiet and not output.as_json:
        output.document(versions, versions["braidmq"])
    else:
        output.fields(versions)


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "-"


@click.command(
    "ping",
    epilog=examples("""
        braidmq ping
        braidmq ping -n 100 --interval 10ms --json
    """),
)
@click.option("-n", "--count", type=click.IntRange(1), default=3, show_default=True)
@click.option("--interval", type=duration, default=200, show_default="200ms")
@remote
def ping(target: Target, output: Output, count: int, interval: int) -> None:
    """Measure the way to the broker and back."""
    began = time.perf_counter()

    async def measure(broker: "BrokerFace") -> tuple[float, list[float]]:
        import asyncio

        connected_ms = (time.perf_counter() - began) * 1000
        times_ms = []
        for number in range(count):
            if number:
                await asyncio.sleep(interval / 1000)
            asked = time.perf_counter()
            await broker.verbs.list_queues(limit=1)
            times_ms.append((time.perf_counter() - asked) * 1000)
            output.note(f"{target.address}: {times_ms[-1]:.2f} ms")
        return connected_ms, times_ms

    connected_ms, times_ms = run(target, measure)
    fields = {
        "url": target.address,
        "connect_ms": round(connected_ms, 3),
        "count": count,
        "min_ms": round(min(times_ms), 3),
        "mean_ms": round(sum(times_ms) / count, 3),
        "max_ms": round(max(times_ms), 3),
    }
    text = "connected in {connect_ms} ms; min {min_ms} mean {mean_ms} max {max_ms} ms"
    output.document(fields, text.format_map(fields))


@click.command(
    "health",
    epilog=examples("""
        braidmq health
        braidmq health --json | jq .log
        braidmq health -q || systemctl restart braidmq
    """),
)
@remote
def health(target: Target, output: Output) -> None:
    """Say whether the broker works.

    The exit status is 0, or says what is wrong. Once there are users it needs the right
    broker:Describe.
    """

    info = run(target, lambda broker: broker.verbs.broker_info())
    fields: dict[str, Any] = {"status": "ok"} | msgspec.to_builtins(info)
    fields["instance"] = f"{info.instance:016x}"  # the first half of every message's id
    if output.as_json:
        output.document(fields)
    elif not output.quiet:
        fields["uptime"] = readable_ms(fields.pop("uptime_seconds") * 1000)
        for name, value in fields.pop("log").items():
            fields[f"log {name}"] = (
                readable_bytes(value) if "bytes" in name and isinstance(value, int) else value
            )
        output.fields(fields)
