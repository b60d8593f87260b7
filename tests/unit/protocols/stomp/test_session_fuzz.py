"""Whatever clients send, in whatever order: an answer or an ERROR, nothing lost, nothing left."""

from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM
from braidmq.broker.stream_settings import StreamSettings
from tests.stomp_peer import Peer, World

DESTINATIONS = [
    *("/queue/a", "/queue/b", "/topic/t", "/topic/*", "/topic/>", "/stream/s", "/temp-queue/x"),
    *("/temp-topic/x", "/queue/a,/topic/t", "/queue/Consumer.C.VirtualTopic.X", "/amq/queue/a"),
    *("/queue/*", "/queue/Consumer.*.VirtualTopic.>,/queue/>"),
    *(
        "/reply-queue/x",
        "/remote-temp-queue/id1",
        "/exchange/amq.direct/k",
        "/topic/VirtualTopic.X",
    ),
    *("/topic/ActiveMQ.Advisory.>", "/topic/$SYS.#", "nothing", ""),
]
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "destination": st.sampled_from(DESTINATIONS),
        "id": st.sampled_from(["1", "2", "1-1", "1-2", "2-1", "x", ""]),
        "ack": st.sampled_from(["auto", "client", "client-individual", "?"]),
        "transaction": st.sampled_from(["t", "u"]),
        "receipt": st.sampled_from(["r", ""]),
        "selector": st.sampled_from(["x = 'y'", "JMSPriority > 4", "("]),
        "browser": st.just("true"),
        "subscription": st.sampled_from(["1", "2"]),
        "message-id": st.sampled_from(["1", "ID:0"]),
        "reply-to": st.sampled_from(["/temp-queue/x", "/temp-topic/x", "/queue/a", "?"]),
        "activemq.prefetchSize": st.sampled_from(["1", "0", "x"]),
        "activemq.subscriptionName": st.just("d"),
        "activemq.exclusive": st.just("true"),
        "activemq.priority": st.sampled_from(["1", "-1", "x"]),
        "activemq.noLocal": st.just("true"),
        "durable": st.just("true"),
        "exclusive": st.just("true"),
        "x-delay": st.sampled_from(["0", "5", "x"]),
        "AMQ_SCHEDULED_DELAY": st.sampled_from(["0", "5", "x"]),
        "AMQ_SCHEDULED_CRON": st.sampled_from(["* * * * *", "x"]),
        "expires": st.sampled_from(["0", "5", "x"]),
        "priority": st.sampled_from(["0", "9", "x"]),
        "start": st.sampled_from(["earliest", "latest", "5"]),
        "JMSXGroupID": st.just("g"),
        "x": st.sampled_from(["y", "base64:AA=="]),
    },
)
COMMANDS = (
    "SEND SEND SEND SUBSCRIBE SUBSCRIBE UNSUBSCRIBE ACK NACK BEGIN COMMIT ABORT DISCONNECT CONNECT"
    " NONSENSE"
).split()
STEP = st.tuples(
    st.integers(0, 2),
    st.sampled_from([*COMMANDS, "slow", "fast", "lose", "wait"]),
    HEADERS,
    st.sampled_from([b"", b"body", b"a\0b"]),
)


@settings(max_examples=150, deadline=None)
@given(
    dialect=st.sampled_from(["activemq", "rabbitmq"]),
    version=st.sampled_from(["1.0", "1.1", "1.2"]),
    steps=st.lists(STEP, max_size=25),
)
def test_nothing_breaks_a_session_and_nothing_is_left_of_it(dialect, version, steps):
    world = World()
    core = world.harness.core
    core.declare_stream(SYSTEM, "s", StreamSettings(), 2, world.harness.clock.ms)
    faults: list[Exception] = []
    core.on_fault = faults.append
    peers: dict[int, Peer] = {}
    for number, command, headers, body in steps:
        peer = peers.get(number)
        if peer is None or peer.is_lost:
            peer = peers[number] = world.peer(version, connect=False, dialect=dialect)
            connect = {"accept-version": version, "client-id": f"c{number}"}
            assert peer.ask("CONNECT", connect)[0].command == "CONNECTED"
        if command == "slow":
            peer.session.pause_writing()
        elif command == "fast":
            peer.session.resume_writing()
        elif command == "lose":
            peer.lose()
        elif command == "wait":
            world.harness.advance(5)
        else:
            peer.write(command, headers, body)
        for frame in peer.read():
            assert frame.command in ("MESSAGE", "RECEIPT", "ERROR"), frame
    for peer in peers.values():
        peer.session.resume_writing()
        peer.read()
        if not peer.is_lost:
            peer.lose()
    world.settle()
    assert not faults
    assert not any(queue.consumers or len(queue.leases) for queue in core.queues.values())
    assert not len(core.queue_watch._watchers)
    assert not any(name.startswith("temp-queue.") for name in core.queues)
    assert not any(session.sink for session in core.sessions.values())
