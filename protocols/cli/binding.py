"""``braidmq topic bind``, ``unbind`` and ``bindings``: topics that queues and streams get too."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from .failures import CommandFailed
from .options import examples, remote
from .output import Output
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.bindingverbs import BindingInfo
    from ...broker.face import BrokerFace

__all__ = ["bind", "bindings", "one_target", "target_options", "unbind"]

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = ("filter", "target", "condition", "dropped", "dead_lettered", "duplicates")
_CONDITION_CHARACTERS_SHOWN = 60


def target_options(function: F) -> F:
    """--queue, --stream and --webhook, of which one is given."""
    for kind in ("webhook", "stream", "queue"):
        function = click.option(f"--{kind}", default="", metavar="NAME", help=f"The {kind}.")(
            function
        )
    return function


def one_target(queue: str, stream: str, webhook: str) -> dict[str, str]:
    """The three by their kinds, of which one has a name. Raises UsageError."""
    named = {"queue": queue, "stream": stream, "webhook": webhook}
    if sum(map(bool, named.values())) != 1:
        raise click.UsageError("Give one target: --queue, --stream or --webhook NAME.")
    return named


def _policy(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error), param_hint="--filter") from None


@click.command(
    "bind",
    epilog=examples("""
        braidmq topic bind 'orders/#' --queue audit
        braidmq topic bind 'orders/#' --queue eu --where "region = 'EU'"
        braidmq topic bind 'orders/#' --stream big --filter '{"n": [{"numeric": [">", 9]}]}' --body
    """),
)
@click.argument("topic")
@target_options
@click.option("--where", default="", metavar="SELECTOR", help="Only messages it selects.")
@click.option(
    "--filter", "policy", default="", metavar="JSON", help="Or a filter policy; @FILE reads it."
)
@click.option("--body", is_flag=True, help="The policy is about the JSON body, not about headers.")
@click.option("--strict", is_flag=True, help="Hold the policy to the limits of Amazon SNS.")
@click.option("--envelope", is_flag=True, help="Put messages into the JSON envelope of Amazon SNS.")
@click.option("--dead-letter", default="", metavar="QUEUE", help="For what the target refuses.")
@remote
def bind(
    target: Target,
    output: Output,
    topic: str,
    queue: str,
    stream: str,
    webhook: str,
    where: str,
    policy: str,
    body: bool,
    strict: bool,
    envelope: bool,
    dead_letter: str,
) -> None:
    """Have what is published to TOPIC put into a queue, a stream or a webhook, from now on.

    TOPIC may have wildcards. Binding the same again changes the conditions.
    """
    named = one_target(queue, stream, webhook)

    async def make(broker: "BrokerFace") -> "BindingInfo":
        return await broker.bind(
            topic,
            queue=named["queue"],
            stream=named["stream"],
            webhook=named["webhook"],
            where=where,
            filter=_policy(policy) or None,
            scope="body" if body else "attributes",
            strict=strict,
            raw=not envelope,
            dead_letter=dead_letter,
        )

    info = run(target, make)
    output.document(msgspec.to_builtins(info))
    output.note(f"bound {topic} to {info.target.kind} {info.target.name}")


@click.command("unbind", epilog=examples("braidmq topic unbind 'orders/#' --queue audit"))
@click.argument("topic")
@target_options
@remote
def unbind(
    target: Target, output: Output, topic: str, queue: str, stream: str, webhook: str
) -> None:
    """End a binding of TOPIC, as it was bound. What it brought stays where it is."""
    from ...broker.errors import NotFound

    named = one_target(queue, stream, webhook)
    try:
        run(
            target,
            lambda broker: broker.unbind(topic, queue=queue, stream=stream, webhook=webhook),
        )
    except NotFound as error:
        hint = "braidmq topic bindings shows what there is"
        raise CommandFailed(str(error), hint, 3, "not-found") from None
    kind = next(kind for kind, name in named.items() if name)
    output.document({"filter": topic, "target": {"kind": kind, "name": named[kind]}})
    output.note(f"unbound {topic} from {kind} {named[kind]}")


@click.command(
    "bindings",
    epilog=examples("""
        braidmq topic bindings
        braidmq topic bindings --queue audit --json
    """),
)
@click.argument("topic", default="")
@target_options
@remote
def bindings(
    target: Target, output: Output, topic: str, queue: str, stream: str, webhook: str
) -> None:
    """List bindings, all or those of TOPIC, as it was bound, or of one target."""
    if queue or stream or webhook:
        one_target(queue, stream, webhook)

    async def look(broker: "BrokerFace") -> "list[BindingInfo]":
        found = broker.bindings(topic, queue=queue, stream=stream, webhook=webhook)
        return [info async for info in found]

    found = run(target, look)
    rows: list[dict[str, Any]] = [msgspec.to_builtins(info) for info in found]
    if not output.as_json:
        for row, info in zip(rows, found, strict=True):
            row["target"] = f"{info.target.kind} {info.target.name}"
            row["condition"] = _condition(info)
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no bindings")
    if any(not info.allowed for info in found):
        output.warn("some deliver nothing: their users may not send there any more")


def _condition(info: "BindingInfo") -> str:
    text = info.settings.where or info.settings.policy or "-"
    if len(text) > _CONDITION_CHARACTERS_SHOWN:
        text = text[: _CONDITION_CHARACTERS_SHOWN - 1] + "…"
    return text
