"""What several load processes found, put together into one run.

Counts are added, histograms merged; latencies keep to the second in which a message was due. The
metric of the series is the one that the scenario is about, whichever processes measured it.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import floor

from ..histogram import Histogram
from ..results.result import MAIN_METRICS, Generator, Run, Second
from .server_use import ServerSample, risen
from .task import Progress, Report

__all__ = ["add_samples", "forget_latencies", "live_second", "merge_into"]


def merge_into(run: Run, senders: Sequence[Report], receivers: Sequence[Report]) -> None:
    """Add what was counted. Replies count as received by those who asked."""
    asked = [report for report in senders if report.role == "requesters"]
    for report in senders:
        run.published += report.published
        run.confirmed += report.confirmed
        run.bytes_in += report.bytes_in
    for report in asked or receivers:
        run.received += report.received
        run.bytes_out += report.bytes_out
    dumps: dict[str, list[list[int]]] = {}
    for report in (*senders, *receivers):
        for metric, dump in report.latency.items():
            if report.role != "echo" or metric != "delivery" or not asked:
                dumps.setdefault(metric, []).append(dump)
    run.latency = {metric: Histogram.of_dumps(some).dump() for metric, some in dumps.items()}
    for name, count in {
        "rejected_deliveries": sum(report.rejected for report in receivers),
        "early_messages": sum(report.early for report in receivers),
        "reconnects": sum(report.reconnects for report in (*senders, *receivers)),
    }.items():
        if count:
            run.figures[name] = float(count)
    run.generators = _generators((*senders, *receivers))
    run.series = _series((*senders, *receivers))


def forget_latencies(report: Report) -> None:
    """Keep only what was counted."""
    report.latency = {}
    for second in report.series:
        second.latency = []


def _generators(reports: Iterable[Report]) -> list[Generator]:
    """What each process was, and what it used."""
    return [
        Generator(
            role=report.role,
            clients=report.clients,
            cpu_seconds=report.cpu_seconds,
            lag_p99_ms=report.lag_p99_ms,
        )
        for report in reports
    ]


def _series(reports: Sequence[Report]) -> list[Second]:
    """Second by second, over all processes."""
    measured = {report.main for report in reports}
    main = next((metric for metric in MAIN_METRICS if metric in measured), "")
    asked = any(report.role == "requesters" for report in reports)
    seconds: dict[int, Second] = {}
    latencies: dict[int, list[list[int]]] = {}
    for report in reports:
        for each in report.series:
            second = seconds.setdefault(each.second, Second(second=each.second))
            if report.role != "echo" or not asked:
                second.published += each.published
                second.confirmed += each.confirmed
                second.received += each.received
            second.errors += each.errors
            second.lag_p99_ms = max(second.lag_p99_ms, each.lag_p99_ms)
            if report.main == main and each.latency:
                latencies.setdefault(each.second, []).append(each.latency)
    for number, dumps in latencies.items():
        histogram, second = Histogram.of_dumps(dumps), seconds[number]
        second.p50_ms = histogram.quantile(0.5) / 1e6
        second.p99_ms = histogram.quantile(0.99) / 1e6
        second.max_ms = histogram.largest / 1e6
    return [seconds[number] for number in sorted(seconds)]


def add_samples(run: Run, samples: Sequence[ServerSample], begin: float) -> None:
    """Put what the broker used into the seconds from ``begin`` on, a moment as of the samples."""
    seconds = {second.second: second for second in run.series}
    pairs: dict[int, list[tuple[ServerSample, ServerSample]]] = {}
    for before, now in pairwise(samples):
        middle = (before.at_seconds + now.at_seconds) / 2
        pairs.setdefault(floor(middle - begin), []).append((before, now))
    for number, some in pairs.items():
        elapsed = sum(now.at_seconds - before.at_seconds for before, now in some)
        if number in seconds and elapsed > 0:
            used = sum(risen(before.cpu_seconds, now.cpu_seconds) for before, now in some)
            seconds[number].server_cpu = used / elapsed
            seconds[number].server_bytes = some[-1][1].memory_bytes


def live_second(said: Iterable[tuple[str, Progress]], server_cpu: float) -> Second:
    """What roles said last, for whoever watches: the slowest counts where quantiles differ.

    Those who answer requests do not count: their requests and replies are somebody else's.
    """
    second = Second(second=-1_000_000, server_cpu=server_cpu)
    latest = [(role, progress) for role, progress in said if role != "echo"]
    receives = any(progress.received for _, progress in latest)
    for _, progress in latest:
        second.second = max(second.second, progress.second)
        second.published += progress.published
        second.confirmed += progress.confirmed
        second.received += progress.received
        second.errors += progress.errors
        second.lag_p99_ms = max(second.lag_p99_ms, progress.lag_p99_ms)
        if progress.received if receives else progress.confirmed:
            second.p50_ms = max(second.p50_ms, progress.p50_ms)
            second.p99_ms = max(second.p99_ms, progress.p99_ms)
            second.max_ms = max(second.max_ms, progress.max_ms)
    return second
