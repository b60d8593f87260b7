"""RabbitMQ as a peer: Debian's package with the STOMP and MQTT plugins, durable classic queues.

``/queue/NAME`` is a durable queue there, and the receipt of a persistent message waits for the
publisher confirm, as does a PUBACK. It may use as much memory as ActiveMQ's heap before it slows
producers down. It is started by the script below ``/usr/lib``: the one in ``/usr/sbin`` becomes
another user. A node registers with a port mapper, which would outlive it: so it gets one of its
own, which is ended after it.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..peer import PeerProcess, find_program, free_port
from .activemq import HEAP_MIB
from .certificates import Certificate, issue
from .system import Running

__all__ = [
    "PortMapperProcess",
    "RabbitMQProcess",
    "RabbitMQSystem",
    "configuration",
    "version",
    "why_not",
]

_HOME: Final = Path("/usr/lib/rabbitmq")
_SCRIPT: Final = _HOME / "bin" / "rabbitmq-server"
_MQTT_PREFETCH: Final = 65_535  # messages that a client may have unacknowledged, by default 10


def version() -> str:
    """Its version, "" when it is not installed."""
    names = sorted(each.name for each in _HOME.glob("lib/rabbitmq_server-*"))
    return names[-1].rpartition("-")[2] if names else ""


def why_not() -> str:
    """Why there is no server; "" when there is."""
    if _SCRIPT.exists() and find_program("epmd"):
        return ""
    return "rabbitmq is not installed (apt install --no-install-recommends rabbitmq-server)"


def configuration(ports: Sequence[int], certificate: Certificate | None = None) -> str:
    """Its configuration file; the ports are for STOMP and MQTT, then for both with TLS."""
    lines = [
        "listeners.tcp = none",  # of AMQP
        f"stomp.listeners.tcp.1 = 127.0.0.1:{ports[0]}",
        f"mqtt.listeners.tcp.1 = 127.0.0.1:{ports[1]}",
        "mqtt.allow_anonymous = true",
        f"mqtt.prefetch = {_MQTT_PREFETCH}",
        f"vm_memory_high_watermark.absolute = {HEAP_MIB}MiB",
        "log.console = false",
        "log.file.level = warning",
    ]
    if certificate is not None:
        lines += [
            f"stomp.listeners.ssl.1 = 127.0.0.1:{ports[2]}",
            f"mqtt.listeners.ssl.1 = 127.0.0.1:{ports[3]}",
            f"ssl_options.cacertfile = {certificate.authority}",
            f"ssl_options.certfile = {certificate.certificate}",
            f"ssl_options.keyfile = {certificate.key}",
        ]
    return "\n".join(lines) + "\n"


class PortMapperProcess(PeerProcess):
    """``epmd`` of one node; it listens on loopback."""

    name = "epmd"

    def _command(self, port: int) -> Sequence[str]:
        return find_program("epmd"), "-port", str(port), "-address", self.host


class RabbitMQProcess(PeerProcess):
    """``with RabbitMQProcess(directory) as broker: connect(broker.host, broker.port)``."""

    name = "rabbitmq"
    start_seconds_max = 60.0  # it takes 12 on an idle machine
    why_not = staticmethod(why_not)

    def __init__(self, directory: str, certificate: Certificate | None = None) -> None:
        super().__init__(directory)
        self.listeners = 2 if certificate is None else 4
        self._certificate = certificate
        self.mapper = PortMapperProcess(directory)

    def start(self) -> None:
        """Start both, and wait until the node accepts. Raises ServerFailed.

        Each attempt has a port mapper of its own: without one the node starts one for the system.
        """
        try:
            super().start()
        except BaseException:
            self.mapper.kill()
            raise

    def stop(self) -> None:
        """Let the node end, then its port mapper. Raises ServerFailed."""
        try:
            super().stop()
        finally:
            self.mapper.kill()

    def kill(self) -> None:
        """End both as a crash would."""
        super().kill()
        self.mapper.kill()

    def _prepare(self, port: int) -> None:
        base = Path(self.directory)
        (base / "rabbitmq.conf").write_text(configuration(self.ports, self._certificate))
        (base / "enabled_plugins").write_text("[rabbitmq_mqtt,rabbitmq_stomp].\n")
        self.mapper.start()  # the one before has ended, with its node

    def _command(self, port: int) -> Sequence[str]:
        base = Path(self.directory)
        settings = {
            "HOME": base,  # gets the cookie
            "ERL_CRASH_DUMP": base / "erl_crash.dump",
            "ERL_EPMD_PORT": self.mapper.port,
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_CONFIG_FILE": base / "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": base / "none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": base / "enabled_plugins",
            "RABBITMQ_MNESIA_BASE": base / "mnesia",
            "RABBITMQ_LOG_BASE": base / "log",
            "RABBITMQ_PID_FILE": base / "pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ("-kernel inet_dist_use_interface {127,0,0,1}"),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node, instead of its parent
        }
        words = [f"{name}={value}" for name, value in settings.items()]
        return find_program("env"), *words, str(_SCRIPT)


class RabbitMQSystem:
    """See ``system.System``."""

    name = "rabbitmq"
    schemes = frozenset({"mqtt", "stomp"})
    why_not = staticmethod(why_not)
    version = staticmethod(version)

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``."""
        certificate = issue(directory)
        broker = stack.enter_context(RabbitMQProcess(directory, certificate))
        schemes = ("stomp", "mqtt")
        urls = [
            f"{scheme}://{broker.host}:{port}"
            for scheme, port in zip(schemes * 2, broker.ports, strict=False)
        ]
        meaning = (
            "durable classic queues, persistent messages: a confirmation is the publisher confirm"
            if durable
            else "messages are not persistent, their queues are"
        )
        return Running(
            version=version(),
            urls=dict(zip(schemes, urls, strict=False)),
            pid=broker.pid,
            settings={
                "vm_memory_high_watermark.absolute": f"{HEAP_MIB} MiB",
                "mqtt.prefetch": str(_MQTT_PREFETCH),
                "durability": meaning,
            },
            tls_urls=dict(zip(schemes, urls[2:], strict=False)),
            tls_ca=certificate.authority if certificate else "",
            restart=broker.restart,
        )
