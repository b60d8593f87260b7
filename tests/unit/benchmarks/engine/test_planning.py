"""Tasks: every client once, every message to everybody who is to have it, whatever the numbers."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.planning import Place, plan_of, reading_again
from braidmq.benchmarks.engine.scenario import NAMES, ScenarioWrong, read_scenario

PLACE = Place(url="braid://127.0.0.1:1", token="t", tls_ca="/ca.pem", cores=(1,))


def plan(name, **settings):
    return plan_of(read_scenario(name, settings), PLACE)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mixed"])
def test_every_scenario_of_ours_is_a_plan(name):
    found = plan(name)
    tasks = [*found.fill, *found.receivers, *found.senders]
    assert tasks
    for task in tasks:
        assert task.cores == (1,)
        assert all(wiring.url == PLACE.url for wiring in task.wirings)


@given(
    st.sampled_from(["queue", "topic", "stream"]),
    *[st.integers(1, 12)] * 4,
)
def test_every_set_of_consumers_reads_everything_that_producers_write(
    kind, producers, consumers, destinations, processes
):
    settings = {
        **{"kind": kind, "producers": producers, "consumers": consumers},
        **{"destinations": destinations, "processes": processes},
    }
    try:
        found = plan("e2e", **settings)
    except ScenarioWrong as error:
        assert "multiple of destinations" in str(error)
        return
    written = Counter(n for task in found.senders for w in task.wirings for n in w.names)
    assert set(written) <= set(found.declared[0].names)
    for number in found.sets:
        read = Counter(
            name
            for task in found.receivers
            for wiring, own in zip(task.wirings, task.share, strict=True)
            if own == number
            for name in wiring.names
        )
        assert set(written) <= set(read)
        if kind != "queue":
            assert max(read.values()) == 1, "a message would come twice within a set"


@given(*[st.integers(1, 20)] * 3)
def test_processes_share_clients_numbers_and_the_schedule(producers, consumers, processes):
    found = plan("e2e", producers=producers, consumers=consumers, processes=processes)
    assert len(found.senders) == min(processes, producers)
    assert sum(len(task.wirings) for task in found.senders) == producers
    assert sum(len(task.wirings) for task in found.receivers) == consumers
    numbers = [
        task.first_number + place for task in found.senders for place in range(len(task.wirings))
    ]
    assert numbers == list(range(producers))
    assert [task.share_place for task in found.senders] == [t.first_number for t in found.senders]
    assert {task.share_clients for task in found.senders} == {producers}
    ids = [w.client_id for task in (*found.senders, *found.receivers) for w in task.wirings]
    assert len(ids) == len(set(ids))


def test_warming_up_is_a_step_of_the_schedule():
    [task] = plan("e2e", rate="1k:2s,5k:3s", warmup_seconds=1).senders
    assert [(step.seconds, step.per_second) for step in task.steps] == [
        (1.0, 1000.0),
        (2.0, 1000.0),
        (3.0, 5000.0),
    ]
    assert (task.warmup_seconds, task.seconds, task.window) == (1.0, 5.0, 0)


def test_a_closed_loop_has_a_window_and_no_schedule():
    [task] = plan("pub").senders
    assert (task.window, task.steps) == (100, ())


@given(st.sampled_from(["e2e", "request-reply"]), *[st.integers(1, 20)] * 2, st.integers(0, 99))
def test_messages_are_dealt_out_and_neither_forgotten_nor_added(name, producers, processes, more):
    settings = {"producers": producers, "processes": processes, "messages": producers + more}
    tasks = plan(name, **settings, destinations=20).senders
    shares = [task.messages for task in tasks]
    assert sum(shares) == producers + more
    assert min(shares) > 0, "0 would be no limit"


def test_groups_are_sets_that_read_every_name():
    found = plan("stream-tail", consumers=4, groups=2, destinations=3)
    [task] = found.receivers
    assert task.share == (0, 1, 0, 1)
    assert found.sets == (0, 1)
    assert all(len(wiring.names) == 3 and wiring.group for wiring in task.wirings)
    assert found.declared[0].groups == tuple(w.group for w in task.wirings[:2])


def test_of_filters_only_as_many_match_as_asked():
    found = plan("wildcards", wildcards=25, matching=2)
    [task] = found.receivers
    filters = [name for wiring in task.wirings for name in wiring.names]
    assert len(filters) == 25
    assert filters.count("bench.t.*") == 2
    assert found.sets == (0, 1)


def test_a_backlog_is_filled_by_other_numbers_than_go_on():
    found = plan("backlog", backlog=1000)
    assert sum(task.messages for task in found.fill) == 1000
    assert found.fill[0].first_number == 0
    assert found.senders[0].first_number == len(found.fill[0].wirings)
    assert found.seconds == 0
    assert all(wiring.from_start for task in found.receivers for wiring in task.wirings)


def test_retained_messages_have_one_writer_with_all_names():
    [task] = plan("retained", destinations=50, backlog=50).fill
    assert [len(wiring.names) for wiring in task.wirings] == [50]
    assert task.wirings[0].retain


def test_what_was_published_is_read_again_from_its_begin():
    found = plan("pub", consumers=3)
    [task] = reading_again(found)
    assert task.seconds > 86_400
    assert all(wiring.from_start for wiring in task.wirings)


def test_a_slow_consumer_has_a_process_of_its_own():
    quick, slow = plan("slow-consumer").receivers
    assert (len(quick.wirings), len(slow.wirings)) == (4, 1)
    assert quick.stop_seconds == 0 < slow.stop_seconds
    assert (*quick.share, *slow.share) == (0, 1, 2, 3, 4)


def test_requesters_know_where_their_replies_come():
    found = plan("request-reply", processes=2)
    asked = [w.names[0] for task in found.senders for w in task.replies]
    assert len(asked) == len(set(asked)) == 4
    for task in found.receivers:
        assert all(list(wiring.names) == asked for wiring in task.replies)


def test_rejected_messages_have_somewhere_to_go():
    found = plan("dead-letters")
    [declared] = found.declared
    *_, last = found.receivers
    assert declared.receives_max == 3
    assert last.wirings[0].names == (declared.dead_letter,)
    assert (last.reject_percent, last.share, found.sets) == (0, (0,), (0,))


def test_connections_are_shared_by_processes():
    tasks = plan("idle", connections=1001, processes=2, rate=500).senders
    assert [task.connections for task in tasks] == [501, 500], "as many as are due for each"
    assert [(task.share_place, task.share_clients) for task in tasks] == [(0, 2), (1, 2)]
    idle = plan("idle", connections=5000, processes=3, rate=500, arrivals="poisson").senders
    assert [task.connections for task in idle] == [1667, 1667, 1666]
    assert {task.arrivals for task in idle} == {"uniform"}, "at random, some would never be due"
    [storm] = plan("connection-storm").senders
    assert storm.connections == 0
    assert storm.steps


def test_tls_is_only_for_those_who_ask():
    assert plan("e2e").declared[0].tls_ca == ""
    assert plan("e2e", tls=True).declared[0].tls_ca == "/ca.pem"
