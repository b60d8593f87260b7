"""Systems that tests of the tool choose from; none of them is a broker."""

from braidmq.benchmarks.systems.system import Running

__all__ = ["Absent", "Present"]


class Absent:
    """A system that nobody installed."""

    name = "absent"
    schemes = frozenset({"mqtt"})

    def why_not(self):
        return "absent is not installed (apt install absent)"


class Present:
    """A system that is there, and serves nothing."""

    name = "present"
    schemes = frozenset({"braid", "mqtt"})

    def why_not(self):
        return ""

    def start(self, stack, directory, durable):
        return Running(
            version="1",
            urls={"braid": "braid://127.0.0.1:1", "mqtt": "mqtt://127.0.0.1:1"},
            pid=0,
            settings={"durable": str(durable)},
        )
