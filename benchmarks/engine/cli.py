"""``bench run``, ``scenarios``, ``peers``, ``sweep`` and ``knobs``: the load tool's own commands.

Exit status: 0 when every promise was kept; 1 when one was broken, when a run could not be carried
out, or when a file cannot be written; 2 for wrong usage. How fast it was never decides.
"""

import contextlib
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

if TYPE_CHECKING:  # every call of the command imports this module
    from ..results.result import Result, Second
    from .choosing import Choice
    from .measuring import Watcher
    from .scenario import Scenario

__all__ = ["COMMANDS", "knobs", "peers", "run", "scenarios", "sweep"]

Command = Callable[..., Any]
Runs = list[tuple["Scenario", list["Choice"]]]

_OUTPUT: Final = (
    click.option("--repeats", type=click.IntRange(1, 1000), help="As --set repeats=N."),
    click.option("--json", "json_file", metavar="FILE", help="Write the result; - is stdout."),
    click.option(
        "--out",
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Write result.json there, and what --hgrm and --html ask for; made if missing.",
    ),
    click.option("--hgrm", is_flag=True, help="Histograms for HdrHistogram's tools, into --out."),
    click.option("--html", is_flag=True, help="A report with charts, into --out."),
    click.option("--quiet", is_flag=True, help="Print nothing but problems."),
    click.option("--pin/--no-pin", default=True, help="Broker on the first core, load elsewhere."),
    click.option(
        "--dir",
        "directory",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, writable=True),
        help="Where data goes, and is removed again. Default: the system's temporary directory.",
    ),
)
_QUICK_MOST: Final = {
    "backlog": 10_000,
    "connections": 1_000,
    "patience_seconds": 4,
    "repeats": 2,
    "seconds": 1,
    "stop_seconds": 1,
    "warmup_seconds": 0.3,
    "wildcards": 2_000,
}
_REPEATS: Final = 3  # of peers
_SET: Final = click.option(
    "--set", "settings", multiple=True, metavar="KNOB=VALUE", help="See bench knobs."
)
_SYSTEMS: Final = (
    click.option(
        "--system",
        "systems",
        multiple=True,
        metavar="NAME[/PROTOCOL]",
        help="What to measure, may be given several times. Default: braidmq; of peers: all.",
    ),
    click.option("--url", default="", help="A broker that runs already, instead of systems."),
    click.option("--server-pid", default=0, help="Its process, to see what it uses."),
    click.option(
        "--tls-ca",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="The authority behind its certificate, for --set tls=true.",
    ),
)


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command("scenarios")
@click.argument("name", default="")
def scenarios(name: str) -> None:
    """List the scenarios, or print the file of one, to change and run."""
    from .scenario import NAMES, ScenarioWrong, read_scenario, scenario_path

    if not name:
        width = max(map(len, NAMES))
        for each in NAMES:
            click.echo(f"{each.ljust(width)}  {read_scenario(each).description}")
        return
    try:
        click.echo(scenario_path(name).read_text(), nl=False)
    except (ScenarioWrong, OSError) as error:
        raise click.UsageError(str(error)) from error


@click.command("knobs")
def knobs() -> None:
    """List everything that a scenario can set, with its default."""
    from ..summary import aligned
    from .knobs import HELP, Knobs

    defaults = Knobs()
    rows = [(name, str(getattr(defaults, name)), text) for name, text in HELP.items()]
    click.echo("\n".join(aligned([("knob", "default", "meaning"), *rows], 3)))


@click.command("run")
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
@_with(_SET, *_SYSTEMS, *_OUTPUT)
def run(
    names: tuple[str, ...], settings: tuple[str, ...], repeats: int | None, **options: Any
) -> None:
    """Run scenarios, ours by name or your own by file, and show what was found."""
    changes = _settings(settings, repeats)
    found = [_scenario(name, changes) for name in names]
    _run(found, **options)


@click.command("sweep")
@click.argument("name", metavar="NAME|FILE")
@click.option("--over", required=True, metavar="KNOB=A,B,C", help="One run for each value.")
@_with(_SET, *_SYSTEMS, *_OUTPUT)
def sweep(
    name: str, over: str, settings: tuple[str, ...], repeats: int | None, **options: Any
) -> None:
    """Run a scenario once for each value of a knob: how cost grows with it."""
    changes = _settings(settings, repeats)
    knob, values = _setting(over)
    found = [_scenario(name, {**changes, knob: value.strip()}) for value in values.split(",")]
    _run(found, **options)


@click.command("peers")
@click.option("--only", metavar="TEXT", default="", help="Scenarios whose name contains TEXT.")
@click.option(
    "--quick",
    is_flag=True,
    help="A second each, twice, peers by one protocol, each broker started once.",
)
@click.option("--list", "as_list", is_flag=True, help="Say what would be run, run none.")
@_with(_SET, _SYSTEMS[0], *_OUTPUT)
def peers(
    only: str,
    quick: bool,
    as_list: bool,
    settings: tuple[str, ...],
    systems: tuple[str, ...],
    repeats: int | None,
    **options: Any,
) -> None:
    """Run every scenario on ours and on every peer that is installed and can do it.

    What is missing is named, with how to install it. soak is left out unless --only names it.
    """
    from ..results.cases import OURS
    from ..systems.registry import SYSTEMS
    from .scenario import NAMES

    chosen = [each for each in NAMES if only in each and (each != "soak" or only)]
    if not chosen:
        raise click.UsageError(f"no scenario has {only!r} in its name")
    changes = _settings(settings, repeats)
    found = []
    for each in chosen:
        base = {"repeats": str(_REPEATS)}
        if quick:
            base = _quick(_scenario(each, base))
        found.append(_scenario(each, {**base, **changes}))
    options |= {"are_kept": quick, "as_list": as_list}
    options["every_protocol_of"] = {OURS} if quick else set(SYSTEMS)
    _run(found, systems=systems, url="", server_pid=0, tls_ca=None, **options)


def _quick(scenario: "Scenario") -> dict[str, str]:
    """What makes a run short; what needs a broker of its own each time is run once."""
    knobs = scenario.knobs
    changes = {name: str(min(getattr(knobs, name), most)) for name, most in _QUICK_MOST.items()}
    if knobs.kill_after_seconds:  # it has to come back
        changes |= {"seconds": "3", "kill_after_seconds": "0.5", "repeats": "1"}
    elif scenario.shape == "idle":
        changes["repeats"] = "1"
    return changes


def _setting(text: str) -> tuple[str, str]:
    from .knobs import KnobsWrong, parse_setting

    try:
        return parse_setting(text)
    except KnobsWrong as error:
        raise click.UsageError(str(error)) from error


def _settings(texts: Sequence[str], repeats: int | None) -> dict[str, str]:
    changes = dict(map(_setting, texts))
    if repeats is not None:
        changes["repeats"] = str(repeats)
    return changes


def _scenario(name: str, changes: dict[str, str]) -> "Scenario":
    from .scenario import ScenarioWrong, read_scenario

    try:
        return read_scenario(name, changes)
    except ScenarioWrong as error:
        raise click.UsageError(str(error)) from error


def _run(
    found: Sequence["Scenario"],
    systems: tuple[str, ...],
    url: str,
    server_pid: int,
    tls_ca: str | None,
    json_file: str | None,
    out: str | None,
    hgrm: bool,
    html: bool,
    quiet: bool,
    pin: bool,
    directory: str | None,
    every_protocol_of: Collection[str] = (),
    are_kept: bool = False,
    as_list: bool = False,
) -> None:
    """Measure, write, show; exit with 1 when there are problems."""
    from ..results.cases import OURS
    from ..results.live import LiveView
    from ..results.result import write_result
    from .measuring import Settings, measure

    if (hgrm or html) and not out:
        raise click.UsageError("--hgrm and --html need --out")
    if systems and url:
        raise click.UsageError("--system starts brokers, --url is one that runs: one of them")
    names = systems or (() if every_protocol_of else (OURS,))
    runs, missing = _chosen(found, names, url, every_protocol_of)
    if as_list:
        _list(runs, missing)
        return
    settings = Settings(
        directory=directory or tempfile.gettempdir(),
        are_pinned=pin,
        are_kept=are_kept,
        server_pid=server_pid,
        tls_ca=tls_ca or "",
        command=tuple(sys.argv[1:]),
    )

    def keep(result: "Result") -> None:
        """After each run, so that one that is broken off leaves what it found."""
        if json_file and json_file != "-":
            _written(write_result, result, json_file)
        if out:
            _written(write_result, result, str(Path(out, "result.json")))

    if out:
        _written(Path(out).mkdir, 0o777, True, True)
    with _ended_in_order():
        watcher: Watcher = LiveView(sys.stderr) if sys.stderr.isatty() else _Titles()
        watcher = _Silent() if quiet else watcher
        result = measure(runs, settings, missing, watcher, keep)
    keep(result)
    _hand_out(result, json_file, out, hgrm, html, quiet)
    if any(run.problems for run in result.runs):
        for run in result.runs if quiet else ():
            for words in run.problems:
                click.echo(f"{run.scenario}, {run.system}: {words}", err=True)
        click.get_current_context().exit(1)


def _hand_out(
    result: "Result", json_file: str | None, out: str | None, hgrm: bool, html: bool, quiet: bool
) -> None:
    """Show the table, and write what was asked for besides the result."""
    from ..results.cli import write_histograms
    from ..results.report import write_report
    from ..results.table import summary_table

    if json_file == "-":
        click.echo(msgspec.json.format(msgspec.json.encode(result), indent=1))
    elif not quiet:
        click.echo(summary_table({"": result}))
    if out and hgrm:
        _written(write_histograms, {"result": result}, Path(out))
    if out and html:
        _written(write_report, {"result": result}, Path(out, "report.html"))


def _chosen(
    found: Sequence["Scenario"],
    systems: Sequence[str],
    url: str,
    every_protocol_of: Collection[str],
) -> tuple[Runs, dict[str, str]]:
    """What each scenario is run on; who can take no part in any of them is missing."""
    from .choosing import choices

    runs: Runs = []
    missing: dict[str, str] = {}
    for scenario in found:
        try:
            some, absent = choices(scenario, systems, url, every_protocol_of)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        runs.append((scenario, some))
        for name, why in absent.items():
            missing[name] = why if missing.get(name, why) == why else "cannot do some of it"
    if not any(some for _, some in runs):
        words = "; ".join(f"{name}: {why}" for name, why in missing.items())
        raise click.UsageError(f"nothing is left to measure: {words}")
    return runs, missing


def _list(runs: Runs, missing: dict[str, str]) -> None:
    for scenario, some in runs:
        for choice in some:
            click.echo(f"{scenario.name}: {choice.system}/{choice.scheme}")
    for name, why in missing.items():
        click.echo(f"left out: {name}: {why}")


def _written(action: Callable[..., Any], *arguments: Any) -> None:
    try:
        action(*arguments)
    except OSError as error:
        raise click.ClickException(str(error)) from error


class _Silent:
    """Watches without a word."""

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """A run begins."""

    def second(self, second: "Second") -> None:
        """A second of it is over."""

    def end(self) -> None:
        """It is over."""


class _Titles(_Silent):
    """Says which run begins, where there is no terminal to draw on."""

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """See ``_Silent``."""
        click.echo(title, err=True)


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends what was started, as an interrupt from the keyboard does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


COMMANDS = (knobs, peers, run, scenarios, sweep)
