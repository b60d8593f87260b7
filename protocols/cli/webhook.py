"""``braidmq webhook``: what is posted to others over HTTP.

Secrets are read from files, never taken from the command line, where other users could see them.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
import msgspec

from .app import group
from .failures import CommandFailed
from .options import confirm, duration, examples, remote, size, yes_option
from .output import Output, readable_bytes, readable_ms
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.webhook import WebhookInfo

__all__ = ["webhook"]

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = ("name", "state", "url", "ready", "delayed", "delivered", "failed", "breaker", "error")
_RETRY = "retry."  # before the names of settings that are those of the retry policy

webhook = group("Post messages to others over HTTP.")


class _Setting(NamedTuple):
    """One field of WebhookSettings or of its retry policy as an option."""

    field: str
    flag: str
    type: Any
    help: str


_OVERFLOW = click.Choice(["reject", "drop-oldest", "dead-letter"])
_BACKOFF = click.Choice(["linear", "arithmetic", "geometric", "exponential"])
_SETTINGS = (
    _Setting("raw", "--raw", bool, "Post the body alone, not in an envelope."),
    _Setting("content_type", "--content-type", str, "Content-Type of every POST."),
    _Setting("dead_letter", "--dead-letter", str, "The queue for what cannot be delivered."),
    _Setting("retry.retries", "--retries", int, "How often to try again."),
    _Setting("retry.min_delay_ms", "--min-delay", duration, "Shortest pause between tries."),
    _Setting("retry.max_delay_ms", "--max-delay", duration, "Longest pause between tries."),
    _Setting("retry.backoff", "--backoff", _BACKOFF, "How the pause grows from one to the other."),
    _Setting("retry.no_delay_retries", "--no-delay-retries", int, "Of these, at once."),
    _Setting("retry.min_delay_retries", "--min-delay-retries", int, "Then, at the shortest pause."),
    _Setting("retry.max_delay_retries", "--max-delay-retries", int, "Last, at the longest pause."),
    _Setting("concurrency_max", "--concurrency", int, "Requests at the same time."),
    _Setting("rate_per_second_max", "--rate", int, "Requests a second. 0: no limit."),
    _Setting("timeout_ms", "--timeout", duration, "How long one request may take."),
    _Setting("breaker_failures_max", "--breaker-failures", int, "In a row, then it is left alone."),
    _Setting("breaker_open_ms", "--breaker-open", duration, "For how long at first."),
    _Setting("breaker_open_ms_max", "--breaker-open-max", duration, "For how long at most."),
    _Setting("signature_version", "--signature", click.Choice(["", "1", "2"]), "As SNS signs."),
    _Setting("confirm", "--confirm", bool, "Ask whoever is there first."),
    _Setting("retention_ms", "--retention", duration, "How long a message waits at most."),
    _Setting("messages_max", "--messages-max", int, "How many messages may wait. 0: no limit."),
    _Setting("bytes_max", "--bytes-max", size, "How many bytes may wait. 0: no limit."),
    _Setting("overflow", "--overflow", _OVERFLOW, "What happens when more come."),
)


def _settings_options(function: F) -> F:
    """One option for each setting, without a default, so that what is not given is None."""
    function = click.option(
        "--header",
        "headers",
        metavar="NAME=VALUE",
        multiple=True,
        help="A header of every POST; =@FILE reads its value from a file. Can be repeated.",
    )(function)
    function = click.option(
        "--secret-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Signing secrets, whsec_..., one a line.",
    )(function)
    for setting in reversed(_SETTINGS):
        name = setting.field.removeprefix(_RETRY)
        flag, options = setting.flag, {"type": setting.type}
        if setting.type is bool:
            flag, options = f"{flag}/--no-{flag[2:]}", {}
        function = click.option(flag, name, default=None, help=setting.help, **options)(function)
    return function


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, as ``settings_from_plain`` and ``update_webhook`` take them."""
    plain: dict[str, Any] = {}
    retry: dict[str, Any] = {}
    for setting in _SETTINGS:
        name = setting.field.removeprefix(_RETRY)
        if values[name] is not None:
            (plain if name == setting.field else retry)[name] = values[name]
    if retry:
        plain["retry"] = retry
    if values["headers"]:
        plain["headers"] = dict(_header(text) for text in values["headers"])
    if values["secret_file"]:
        plain["secrets"] = _read(values["secret_file"]).split()
    return plain


def _header(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--header")
    return name, _read(value[1:]).strip() if value.startswith("@") else value


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {path}: {error}", "", 2, "not-read") from None


def _shown(info: "WebhookInfo", output: Output) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(info)
    if output.as_json:
        return fields
    settings = fields.pop("settings")
    activity = fields.pop("activity")
    fields["url"] = settings.pop("url")
    for key in ("created_ms", "token_expires_ms"):
        stamp = fields.pop(key)
        fields[key.removesuffix("_ms")] = _moment(stamp)
    fields["bytes"] = readable_bytes(fields["bytes"])
    fields |= {name: value for name, value in activity.items() if name != "error_ms"}
    fields["error_at"] = _moment(activity["error_ms"])
    fields["retry"] = " ".join(f"{name}={value}" for name, value in settings.pop("retry").items())
    for name, value in settings.items():
        if "_ms" in name:
            fields[name.replace("_ms", "")] = readable_ms(value)
        elif name not in ("headers", "secrets", "messages_max", "bytes_max"):
            fields[name] = value
    fields["headers"] = " ".join(settings["headers"])
    fields["secrets"] = len(settings["secrets"])
    return fields


def _moment(stamp: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(stamp / 1000)) if stamp else "-"


@webhook.command(
    "ls",
    epilog=examples("""
        braidmq webhook ls
        braidmq webhook ls billing- --json
    """),
)
@click.argument("prefix", default="")
@remote
def _ls(target: Target, output: Output, prefix: str) -> None:
    """List webhooks, all or those whose names begin with PREFIX."""

    async def look(broker: "BrokerFace") -> list[dict[str, Any]]:
        return [_shown(info, output) async for info in broker.webhooks(prefix)]

    rows = run(target, look)
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no webhooks")


@webhook.command("show", epilog=examples("braidmq webhook show billing --json | jq .activity"))
@click.argument("name")
@remote
def _show(target: Target, output: Output, name: str) -> None:
    """Show a webhook: its settings without secrets, and how it goes."""
    output.fields(_shown(run(target, lambda broker: broker.webhook(name)), output))


@webhook.command(
    "declare",
    epilog=examples("""
        braidmq webhook declare billing https://hooks.example.org/in --dead-letter billing-lost
        braidmq webhook declare audit http://10.0.0.7/in --raw --secret-file audit.secret
        braidmq topic bind 'orders/#' --webhook billing
    """),
)
@click.argument("name")
@click.argument("post_to", metavar="URL")
@_settings_options
@remote
def _declare(target: Target, output: Output, name: str, post_to: str, **values: Any) -> None:
    """Make a webhook. With the same settings as before nothing happens."""
    from ...broker.webhook import settings_from_plain

    settings = settings_from_plain(_given(values) | {"url": post_to})
    settings.check()
    info = run(target, lambda broker: broker.verbs.declare_webhook(name, settings))
    output.document(msgspec.to_builtins(info))
    if info.state == "confirmed":
        output.note(f"webhook {name} is there")
    else:
        output.note(f"webhook {name} is there; nothing is posted until it is confirmed")


@webhook.command("update", epilog=examples("braidmq webhook update billing --concurrency 8"))
@click.argument("name")
@click.option("--to", "new_url", metavar="URL", help="Another URL; it has to be confirmed anew.")
@_settings_options
@remote
def _update(target: Target, output: Output, name: str, new_url: str | None, **values: Any) -> None:
    """Change settings of a webhook; what is not given stays."""
    changes = _given(values) | ({"url": new_url} if new_url else {})
    if not changes:
        raise click.UsageError("nothing to change: give at least one setting")
    info = run(target, lambda broker: broker.verbs.update_webhook(name, changes))
    output.document(msgspec.to_builtins(info))
    output.note(f"webhook {name} was changed")


@webhook.command("confirm", epilog=examples("braidmq webhook confirm billing TOKEN"))
@click.argument("name")
@click.argument("token")
@remote
def _confirm(target: Target, output: Output, name: str, token: str) -> None:
    """Bring back the token that was posted to a webhook."""
    info = run(target, lambda broker: broker.confirm_webhook(name, token))
    output.document(msgspec.to_builtins(info))
    output.note(f"webhook {name} is confirmed")


@webhook.command("ask", epilog=examples("braidmq webhook ask billing"))
@click.argument("name")
@remote
def _ask(target: Target, output: Output, name: str) -> None:
    """Ask whoever is there to confirm once more, with another token."""
    info = run(target, lambda broker: broker.ask_webhook_again(name))
    output.document(msgspec.to_builtins(info))
    output.note(f"webhook {name} is asked again")


@webhook.command("rm", epilog=examples("braidmq webhook rm billing --yes"))
@click.argument("names", nargs=-1, required=True)
@yes_option
@remote
def _rm(target: Target, output: Output, names: tuple[str, ...], yes: bool) -> None:
    """Remove webhooks and what waits for them."""
    confirm(f"Remove {', '.join(names)} and all that waits there?", yes)

    async def remove(broker: "BrokerFace") -> None:
        for name in names:
            await broker.delete_webhook(name)

    run(target, remove)
    output.document({"removed": list(names)})
    output.note(f"removed {', '.join(names)}")
