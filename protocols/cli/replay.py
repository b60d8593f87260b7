"""``braidmq topic replay``, ``replays`` and ``replay-cancel``: what an archive has, once more."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ...broker.config import duration_ms
from ...broker.errors import InvalidArgument
from .binding import one_target, target_options
from .failures import CommandFailed
from .options import examples, remote
from .output import Output, Progress
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.replayverbs import ReplayInfo

__all__ = ["replay", "replay_cancel", "replays"]

_COLUMNS = ("id", "filter", "target", "archive", "state", "examined", "remaining", "replayed")
_POLL_SECONDS = 0.2


def _moment(value: str | datetime) -> datetime:
    """The type of an option: a time in ISO 8601, of UTC if it has no zone, or how long ago."""
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        try:
            return datetime.now(UTC) - timedelta(milliseconds=duration_ms(value))
        except InvalidArgument:
            text = "neither a time, as 2026-11-23T04:00:00Z, nor how long ago, as 90m"
            raise click.BadParameter(f"{value!r} is {text}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.command(
    "replay",
    epilog=examples("""
        braidmq topic replay 'orders/#' --queue audit --archive orders-archive --from 24h
        braidmq topic replay 'orders/#' --queue audit --archive old --from 2026-11-23T04:00:00Z
        braidmq topic replay 'orders/#' --queue eu --archive old --rate 100 --no-wait
    """),
)
@click.argument("topic")
@target_options
@click.option("--archive", required=True, metavar="STREAM", help="What has kept the messages.")
@click.option(
    "--from", "start", type=_moment, metavar="TIME", help="From then on. Default: all it has."
)
@click.option("--to", "end", type=_moment, metavar="TIME", help="Up to then. Default: up to now.")
@click.option(
    "--rate", type=click.FloatRange(0), default=0, help="Messages a second. 0: as fast as goes."
)
@click.option("--wait/--no-wait", default=True, help="Show progress until it is done.")
@remote
def replay(
    target: Target,
    output: Output,
    topic: str,
    queue: str,
    stream: str,
    webhook: str,
    archive: str,
    start: datetime | None,
    end: datetime | None,
    rate: float,
    wait: bool,
) -> None:
    """Have what an archive keeps of TOPIC put into what it is bound to, once more.

    TIME is a date and time (of UTC, if it has no zone), or how long ago it was: 90m, 24h, 7d.
    """
    from ...broker.errors import NotFound

    one_target(queue, stream, webhook)

    async def go(broker: "BrokerFace") -> "ReplayInfo":
        info = await broker.replay(
            topic,
            queue=queue,
            stream=stream,
            webhook=webhook,
            archive=archive,
            start=start,
            end=end,
            rate=rate,
        )
        return await _follow(broker, info, output) if wait else info

    try:
        info = run(target, go)
    except NotFound as error:
        hint = "braidmq topic bindings shows what is bound, also to archives"
        raise CommandFailed(str(error), hint, 3, error.code) from None
    output.document({"event": "result"} | msgspec.to_builtins(info))
    if info.state == "failed":
        raise CommandFailed(
            f"replay {info.id} failed: {info.error}", f"{info.replayed} messages were replayed"
        )
    output.note(_told(info))
    if info.refused:
        output.warn(f"{info.refused} messages are too large for the target")


def _told(info: "ReplayInfo") -> str:
    state = f"replay {info.id} is {info.state}"
    return f"{state}: {info.replayed} messages of {info.examined} records"


async def _follow(broker: "BrokerFace", info: "ReplayInfo", output: Output) -> "ReplayInfo":
    import asyncio

    progress = Progress(output, "replay", "records")
    try:
        while info.state == "running":
            progress.update(info.examined, info.examined + info.remaining)
            await asyncio.sleep(_POLL_SECONDS)
            found = [each for each in await broker.replays() if each.id == info.id]
            if not found:
                break
            info = found[0]
        return info
    except asyncio.CancelledError:
        output.note(f"replay {info.id} goes on; braidmq topic replay-cancel {info.id} stops it")
        raise
    finally:
        progress.finish()


@click.command("replays", epilog=examples("braidmq topic replays --json"))
@remote
def replays(target: Target, output: Output) -> None:
    """List replays that run, or ended lately."""
    infos = run(target, lambda broker: broker.replays())
    rows: list[dict[str, Any]] = [msgspec.to_builtins(info) for info in infos]
    if not output.as_json:
        for row, info in zip(rows, infos, strict=True):
            row["target"] = f"{info.target.kind} {info.target.name}"
            row["archive"] = info.policy.archive
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no replays")
    for info in infos:
        if info.state == "failed":
            output.warn(f"replay {info.id} failed: {info.error}")


@click.command("replay-cancel", epilog=examples("braidmq topic replay-cancel 3"))
@click.argument("id", type=int)
@remote
def replay_cancel(target: Target, output: Output, id: int) -> None:
    """Stop a replay; what was replayed stays."""
    from ...broker.errors import NotFound

    try:
        info = run(target, lambda broker: broker.cancel_replay(id))
    except NotFound as error:
        next_step = "braidmq topic replays lists those that run, or ended lately"
        raise CommandFailed(str(error), next_step, 3, error.code) from None
    output.document(msgspec.to_builtins(info))
    output.note(_told(info))
