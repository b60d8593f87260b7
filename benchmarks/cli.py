"""``braidmq bench``: what the load tools can be told, as commands.

Exit status: 0 when every message is accounted for, 1 when one was lost or changed, or when a run
could not be carried out, 2 for wrong usage. How fast it was never decides.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import msgspec

from .engine.cli import COMMANDS as ENGINE_COMMANDS
from .results.cli import COMMANDS as RESULT_COMMANDS

__all__ = [
    "backlog",
    "baseline",
    "bench",
    "cost",
    "fanout",
    "mqtt",
    "queue",
    "stomp",
    "stream",
    "table",
]

_DIRECTORY = click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, writable=True),
    help="Where data goes, and is removed again. Default: the system's temporary directory.",
)
_JSON = click.option("--json", "json_file", metavar="FILE", help="Write JSON; - is stdout.")
_SIZE = click.option("--size", default=1024, show_default=True, help="Bytes of a body.")
_DURABILITY = click.option(
    "--durability", type=click.Choice(["sync", "os", "memory"]), default="sync", show_default=True
)
_EXPECT = click.option(
    "--expect",
    type=click.Choice(["at-least-once", "exactly-once", "in-order"]),
    default="at-least-once",
    show_default=True,
    help="What must hold for the messages, else the exit status is 1.",
)
_SHARED: Final = (
    _DIRECTORY,
    _JSON,
    _EXPECT,
    click.option("--seconds", default=1.5, show_default=True, help="Of each measurement."),
    click.option("--warmup", default=0.3, show_default=True, help="Seconds before it."),
    click.option("--seed", default=1, show_default=True, help="Of the bodies."),
    click.option(
        "--baseline-seconds",
        default=0.7,
        show_default=True,
        help="For each of the four parts of the baseline in each round; 0 leaves it out.",
    ),
)

Command = Callable[..., Any]


def _shared(command: Command) -> Command:
    for option in reversed(_SHARED):
        command = option(command)
    return command


@click.group("bench")
def bench() -> None:
    """Put load on a broker and measure.

    Every run counts its messages: lost, twice, out of order, changed.
    """


for _command in (*ENGINE_COMMANDS, *RESULT_COMMANDS):
    bench.add_command(_command)


@bench.command("table")
@_shared
@_SIZE
@click.option("--rounds", default=3, show_default=True, help="Rounds over the whole table.")
@click.option("--only", metavar="TEXT", default="", help="Scenarios whose name contains TEXT.")
@click.option("--list", "as_list", is_flag=True, help="Name the scenarios, run none.")
def table(
    directory: str | None,
    json_file: str | None,
    expect: str,
    seconds: float,
    warmup: float,
    seed: int,
    baseline_seconds: float,
    size: int,
    rounds: int,
    only: str,
    as_list: bool,
) -> None:
    """Run all scenarios beside this machine's own baseline."""
    from .queue_scenarios import TABLE, Scenario, Settings

    changes = {"size": size, "seconds": seconds, "warmup": warmup, "seed": seed}
    chosen = [
        Scenario(each.name, msgspec.structs.replace(each.plan, **changes), each.raw, each.wanted)
        for each in TABLE
        if only.lower() in each.name.lower()
    ]
    if as_list:
        click.echo("\n".join(each.name for each in chosen))
        return
    settings = Settings(
        directory=directory or "",
        rounds=rounds,
        baseline_seconds=baseline_seconds,
        expect=expect,
    )
    _run(chosen, settings, json_file)


@bench.command("queue")
@_shared
@_SIZE
@_DURABILITY
@click.option(
    "--target",
    type=click.Choice(["native", "face", "core"]),
    default="native",
    show_default=True,
    help="Over braid://; or in one process, through the Python face or the core.",
)
@click.option("--url", default="", help="A native broker that runs. Default: one of its own.")
@click.option("--producers", default=100, show_default=True, help="Connections, or tasks.")
@click.option("--consumers", default=10, show_default=True)
@click.option("--batch", default=1, show_default=True, help="Messages in a request.")
@click.option("--window", default=1, show_default=True, help="Requests under way of each.")
@click.option(
    "--rate",
    default=0.0,
    help="Open loop: messages a second, on a schedule. Default: as fast as answers come.",
)
@click.option("--messages", default=0, help="Stop after so many, without a warm-up.")
@click.option("--together", is_flag=True, help="Produce and consume at the same time (e2e).")
@click.option("--mode", type=click.Choice(["push", "pull"]), default="push", show_default=True)
@click.option("--credit", default=1000, show_default=True, help="Of a pushed consumer.")
@click.option("--ack-batch", default=0, help="Most receipts in an ACK. Default: as they come.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--queue", "name", default="bench", show_default=True, help="Its name in the table.")
def queue(
    directory: str | None,
    json_file: str | None,
    expect: str,
    baseline_seconds: float,
    target: str,
    url: str,
    together: bool,
    rounds: int,
    name: str,
    **options: Any,
) -> None:
    """Send, receive and acknowledge messages of one queue.

    Without --together, producers run alone, then consumers empty the queue.
    """
    from .meter import Plan, plan_problems
    from .queue_scenarios import Scenario, Settings

    shape = "together" if together else "apart"
    plan = Plan(target=target, shape=shape, **options)
    problems = plan_problems(msgspec.structs.replace(plan, url=url or "braid://127.0.0.1:0"))
    if problems:
        raise click.UsageError("; ".join(problems))
    raw = "" if plan.rate or together else _raw(plan.producers, plan.batch * plan.window)
    settings = Settings(
        directory=directory or "",
        url=url,
        rounds=rounds,
        baseline_seconds=baseline_seconds,
        expect=expect,
    )
    _run([Scenario(name, plan, raw, bool(raw))], settings, json_file)


def _raw(producers: int, under_way: int) -> str:
    """The part of the baseline that is like this load, "" when none is."""
    alike = {(1, 1): "one", (100, 1): "hundred", (50, 20): "windows"}
    return alike.get((producers, under_way), "")


@bench.command("backlog")
@_DIRECTORY
@_JSON
@_DURABILITY
@_SIZE
@click.option("--messages", default=10_000_000, show_default=True)
def backlog(
    directory: str | None, json_file: str | None, durability: str, size: int, messages: int
) -> None:
    """Fill a queue; memory for each message, and how long restarts take."""
    from .backlog import BacklogFailed, backlog_text
    from .backlog import backlog as measure
    from .load import LoadFailed
    from .peer import ServerFailed

    if durability == "memory":
        raise click.UsageError("a queue in memory does not survive a restart")
    try:
        with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory) as own:
            found = measure(own, messages, size, durability, _progress)
    except (BacklogFailed, LoadFailed, ServerFailed) as error:
        raise click.ClickException(str(error)) from error
    _write(json_file, found, backlog_text(found))


@bench.command("baseline")
@_DIRECTORY
@_JSON
@_SIZE
@click.option("--seconds", default=1.0, show_default=True, help="For each of the four parts.")
def baseline(directory: str | None, json_file: str | None, size: int, seconds: float) -> None:
    """Measure this disk, and the simplest group commit on it."""
    from .baseline import start
    from .environment import describe
    from .report import Report, text

    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory) as own:
        found = start(own, seconds, size)
        report = Report(describe(own), found, [], {"size": size, "seconds": seconds})
    _write(json_file, report, text(report))


@bench.command("cost")
@click.option("--only", metavar="TEXT", default="", help="Cases whose name or protocol has TEXT.")
@click.option("--messages", default=1_000, show_default=True, type=click.IntRange(10, 1_000_000))
@click.option(
    "--instructions/--no-instructions", default=True, help="Count them, which takes longest."
)
@_JSON
@_DIRECTORY
def cost(
    only: str, messages: int, instructions: bool, json_file: str | None, directory: str | None
) -> None:
    """Count CPU, system calls and instructions of ours for a message."""
    from .cost import cases, cost_report, cost_text, measure
    from .counting import CountingFailed
    from .engine.crew import LoadFailed
    from .peer import ServerFailed

    chosen = [each for each in cases() if only.lower() in f"{each.name}, {each.scheme}"]
    if not chosen:
        raise click.UsageError(f"no case has {only!r} in its name or protocol")
    try:
        with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory) as own:
            costs = measure(chosen, messages, own, _progress, instructions)
            found = cost_report(costs, messages, own)
    except (CountingFailed, LoadFailed, ServerFailed) as error:
        raise click.ClickException(str(error)) from error
    _write(json_file, found, cost_text(found))


@bench.command("mqtt")
@click.option("--only", metavar="TEXT", default="", help="Scenarios whose name contains TEXT.")
@click.option("--list", "as_list", is_flag=True, help="Name the scenarios, run none.")
@click.option("--seconds", default=3.0, show_default=True, help="Of each measurement.")
@click.option("--warmup", default=0.7, show_default=True, help="Seconds before it.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--peer",
    type=click.Choice(["mosquitto", "mosquitto-saving", "relay", "none"]),
    default="mosquitto",
    show_default=True,
    help="mosquitto, without and with sessions saved every second; relay: no broker, the"
    " limit of the load itself.",
)
@click.option("--alone", is_flag=True, help="Only the peer.")
@click.option(
    "--version",
    "protocol",
    type=click.Choice(["3.1.1", "5"]),
    default="3.1.1",
    show_default=True,
    help="Of MQTT. With 5, every message carries a content type and a user property.",
)
@click.option("--connections", default=10_000, show_default=True, help="Idle ones.")
@click.option("--seed", default=1, show_default=True, help="Of payloads, sizes and topics.")
@_JSON
@_DIRECTORY
def mqtt(
    only: str,
    as_list: bool,
    seconds: float,
    warmup: float,
    repeats: int,
    peer: str,
    alone: bool,
    protocol: str,
    connections: int,
    seed: int,
    json_file: str | None,
    directory: str | None,
) -> None:
    """Compare MQTT throughput, latency and memory with mosquitto's."""
    from .environment import describe
    from .machine import cores
    from .mqtt_brokers import OURS, version_of
    from .mqtt_plan import problems_of
    from .mqtt_report import MqttReport, row, text
    from .mqtt_scenarios import TABLE, Scenario, run_rounds
    from .peer import ServerFailed

    changes = {"seconds": seconds, "warmup": warmup, "seed": seed, "connections": connections}
    changes["version"] = 5 if protocol == "5" else 4
    chosen = [
        Scenario(each.name, msgspec.structs.replace(each.plan, **changes))
        for each in TABLE
        if only.lower() in each.name.lower()
    ]
    if as_list:
        click.echo("\n".join(each.name for each in chosen))
        return
    brokers = ([] if alone else [OURS]) + ([] if peer == "none" else [peer])
    wrong = [problem for each in chosen for problem in problems_of(each.plan)]
    if not brokers:
        wrong.append("--alone and --peer none leave nothing to measure")
    if wrong:
        raise click.UsageError("; ".join(dict.fromkeys(wrong)))
    machine = describe(directory or tempfile.gettempdir())
    try:
        found = run_rounds(chosen, brokers, repeats, directory or "", _progress)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    report = MqttReport(
        environment=machine,
        brokers={name: version_of(name) for name in brokers},
        cores=cores(),
        rows=[row(each, found[each.name]) for each in chosen],
        arguments={"only": only, "repeats": repeats, "protocol": protocol, **changes},
    )
    _write(json_file, report, text(report))
    if report.failed:
        click.get_current_context().exit(1)


@bench.command("stomp")
@click.option("--only", metavar="TEXT", default="", help="Scenarios whose name contains TEXT.")
@click.option("--list", "as_list", is_flag=True, help="Name the scenarios, run none.")
@click.option(
    "--system",
    "systems",
    multiple=True,
    type=click.Choice(["braidmq", "activemq", "rabbitmq"]),
    help="What to measure, may be given several times. Default: all that are installed.",
)
@click.option("--seconds", default=3.0, show_default=True, help="Of each measurement.")
@click.option("--warmup", default=1.0, show_default=True, help="Seconds before it.")
@click.option("--heat", default=8.0, show_default=True, help="Seconds of load before the table.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1, 1000))
@click.option("--size", default=1024, show_default=True, help="Bytes of a body.")
@click.option("--apart", is_flag=True, help="Brokers on the first core, the load on the second.")
@click.option("--seed", default=1, show_default=True, help="Of the bodies.")
@_JSON
@_DIRECTORY
def stomp(
    only: str,
    as_list: bool,
    systems: tuple[str, ...],
    seconds: float,
    warmup: float,
    heat: float,
    repeats: int,
    size: int,
    apart: bool,
    seed: int,
    json_file: str | None,
    directory: str | None,
) -> None:
    """Compare persistent STOMP messages with ActiveMQ's and RabbitMQ's."""
    from .peer import ServerFailed
    from .stomp_plan import problems_of
    from .stomp_report import stomp_report, stomp_row, text
    from .stomp_scenarios import TABLE, StompScenario, run_rounds

    changes = {"seconds": seconds, "warmup": warmup, "size": size, "seed": seed}
    chosen = [
        StompScenario(each.name, msgspec.structs.replace(each.plan, **changes))
        for each in TABLE
        if only.lower() in each.name.lower()
    ]
    if as_list:
        click.echo("\n".join(each.name for each in chosen))
        return
    if wrong := [problem for each in chosen for problem in problems_of(each.plan)]:
        raise click.UsageError("; ".join(dict.fromkeys(wrong)))
    arguments: dict[str, str | int | float] = {"only": only, "repeats": repeats, **changes}
    arguments["heat"] = heat
    report = stomp_report(systems, apart, directory or tempfile.gettempdir(), arguments)
    names = list(report.systems)
    try:
        found = run_rounds(chosen, names, repeats, heat, apart, directory or "", _progress)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    report.rows = [stomp_row(each, found[each.name]) for each in chosen]
    _write(json_file, report, text(report))
    if report.failed:
        click.get_current_context().exit(1)


def _comparing(command: Command) -> Command:
    """The options of a comparison of stream brokers."""
    options = (
        click.option("--only", metavar="TEXT", default="", help="Scenarios with TEXT in the name."),
        click.option("--list", "as_list", is_flag=True, help="Name the scenarios, run none."),
        click.option(
            "--system",
            "systems",
            multiple=True,
            type=click.Choice(["braidmq", "in process", "redis", "jetstream"]),
            help="What to measure, may be given several times. Default: all that are installed.",
        ),
        click.option("--seconds", default=2.0, show_default=True, help="Of each measurement."),
        click.option("--warmup", default=0.5, show_default=True, help="Seconds before it."),
        click.option("--repeats", default=3, show_default=True, type=click.IntRange(1, 1000)),
        click.option("--seed", default=1, show_default=True, help="Of the bodies."),
        _JSON,
        _DIRECTORY,
    )
    for option in reversed(options):
        command = option(command)
    return command


@bench.command("stream")
@_comparing
def stream(**options: Any) -> None:
    """Compare streams with Redis Streams' and NATS JetStream's."""
    from .stream_scenarios import STREAMS

    _compare(STREAMS, **options)


@bench.command("fanout")
@_comparing
def fanout(**options: Any) -> None:
    """Publish to many queues at once, all or none; compare with transactions of Redis."""
    from .stream_scenarios import FANOUT

    _compare(FANOUT, **options)


def _compare(
    table: Sequence[Any],
    only: str,
    as_list: bool,
    systems: tuple[str, ...],
    seconds: float,
    warmup: float,
    repeats: int,
    seed: int,
    json_file: str | None,
    directory: str | None,
) -> None:
    """Run scenarios against stream brokers in turn, and show them beside each other."""
    from .peer import ServerFailed
    from .stream_plan import problems_of
    from .stream_report import stream_report, stream_row, text
    from .stream_scenarios import StreamScenario, run_rounds

    changes = {"seconds": seconds, "warmup": warmup, "seed": seed}
    chosen = [
        StreamScenario(each.name, msgspec.structs.replace(each.plan, **changes))
        for each in table
        if only.lower() in each.name.lower()
    ]
    if as_list:
        click.echo("\n".join(each.name for each in chosen))
        return
    if wrong := [problem for each in chosen for problem in problems_of(each.plan)]:
        raise click.UsageError("; ".join(dict.fromkeys(wrong)))
    arguments: dict[str, str | int | float] = {"only": only, "repeats": repeats, **changes}
    report = stream_report(chosen, systems, directory or tempfile.gettempdir(), arguments)
    try:
        found = run_rounds(chosen, list(report.systems), repeats, directory or "", _progress)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    report.rows = [stream_row(each, found[each.name]) for each in chosen]
    _write(json_file, report, text(report))
    if report.failed:
        click.get_current_context().exit(1)


def _run(scenarios: list[Any], settings: Any, json_file: str | None) -> None:
    """Run scenarios, show them, and exit with 1 when messages are not accounted for."""
    from .environment import describe
    from .load import LoadFailed
    from .peer import ServerFailed
    from .queue_scenarios import run_rounds
    from .report import Report, text

    machine = describe(settings.directory or tempfile.gettempdir())
    try:
        measured, found = run_rounds(scenarios, settings, _progress)
    except (LoadFailed, ServerFailed) as error:
        raise click.ClickException(str(error)) from error
    report = Report(machine, measured, found, msgspec.structs.asdict(settings))
    _write(json_file, report, text(report))
    if report.failed:
        click.get_current_context().exit(1)


def _write(json_file: str | None, found: msgspec.Struct, words: str) -> None:
    encoded = msgspec.json.format(msgspec.json.encode(found), indent=2)
    if json_file == "-":
        click.echo(encoded)
        return
    click.echo(words)
    if json_file:
        with click.open_file(json_file, "wb") as file:
            file.write(encoded + b"\n")


def _progress(text: str) -> None:
    """Say what is being done; on a terminal in one line, which "" wipes away."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", nl=False, err=True)
    elif text:
        click.echo(text, err=True)
