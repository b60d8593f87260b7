"""ActiveMQ Classic as a peer: Debian's package, KahaDB on disk, ports for STOMP and MQTT.

A receipt for a persistent message means that KahaDB has synced its journal: the strategy
``always``, which is also its default. The heap is as large as the memory that RabbitMQ may use.
There are two transports for each protocol; this takes the one with a thread for each connection,
which carries up to 1.5 times as much as the other (``nio``) with STOMP. Everything else is as it
comes. It is started as Debian's script would, but not by it: that becomes another user. Debian's
package logs by log4j 1.2, which the documentation of this version says nothing of.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..peer import PeerProcess, find_program
from .system import Running

__all__ = [
    "HEAP_MIB",
    "ActiveMQProcess",
    "ActiveMQSystem",
    "configuration",
    "version",
    "why_not",
]

HEAP_MIB: Final = 1024  # of memory, for each peer

_HOME: Final = Path("/usr/share/activemq")
_JARS: Final = Path("/usr/share/java")
_BESIDE: Final = ("hawtdispatch", "hawtdispatch-transport", "jettison", "mqtt-client", "xstream")
_PACKAGES: Final = (
    "activemq libmqtt-client-java libhawtdispatch-java libxstream-java libjettison-java"
)
_FILE: Final = "activemq.xml"
_LOGGING: Final = """\
log4j.rootLogger=WARN, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%p %c %m%n
"""


def version() -> str:
    """Its version, "" when it is not installed."""
    for jar in _JARS.glob("activemq-broker-*.jar"):
        if found := re.fullmatch(r"activemq-broker-([\d.]+)\.jar", jar.name):
            return found[1]
    return ""


def why_not() -> str:
    """Why there is no server; "" when there is."""
    jars = [_HOME / "lib" / "activemq-stomp.jar", *(_JARS / f"{name}.jar" for name in _BESIDE)]
    if find_program("java") and all(jar.exists() for jar in jars):
        return ""
    return f"activemq is not installed (apt install --no-install-recommends {_PACKAGES})"


def configuration(ports: Sequence[int], directory: str, durable: bool = True) -> str:
    """Its configuration file; the ports are for STOMP and MQTT."""
    stomp, mqtt = ports
    return f"""\
<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans
  http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="bench" useJmx="false"
    persistent="{str(durable).lower()}" schedulerSupport="true" dataDirectory="{directory}/data">
    <persistenceAdapter>
      <kahaDB directory="{directory}/data/kahadb" journalDiskSyncStrategy="always"/>
    </persistenceAdapter>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{stomp}"/>
      <transportConnector name="mqtt" uri="mqtt://127.0.0.1:{mqtt}"/>
    </transportConnectors>
  </broker>
</beans>
"""


class ActiveMQProcess(PeerProcess):
    """``with ActiveMQProcess(directory) as broker: connect(broker.host, broker.port)``."""

    name = "activemq"
    start_seconds_max = 60.0  # a virtual machine has to start
    listeners = 2  # for STOMP and MQTT
    why_not = staticmethod(why_not)

    def __init__(self, directory: str, durable: bool = True) -> None:
        super().__init__(directory)
        self._durable = durable

    def _prepare(self, port: int) -> None:
        base = Path(self.directory)
        (base / _FILE).write_text(configuration(self.ports, self.directory, self._durable))
        (base / "log4j.properties").write_text(_LOGGING)

    def _command(self, port: int) -> Sequence[str]:
        base = Path(self.directory)
        jars = [
            *sorted((_HOME / "lib").glob("*.jar")),
            *sorted((_HOME / "lib" / "optional").glob("*.jar")),
            *(_JARS / f"{name}.jar" for name in _BESIDE),
        ]
        return (
            find_program("java"),
            f"-Xms{HEAP_MIB}m",
            f"-Xmx{HEAP_MIB}m",
            f"-Dlog4j.configuration=file:{base}/log4j.properties",
            f"-Dactivemq.home={_HOME}",
            *(f"-Dactivemq.{name}={base}" for name in ("base", "conf", "data")),
            *("-cp", ":".join(map(str, [base, *jars]))),
            *("org.apache.activemq.console.Main", "start", f"xbean:file:{base / _FILE}"),
        )


class ActiveMQSystem:
    """See ``system.System``."""

    name = "activemq"
    schemes = frozenset({"mqtt", "stomp"})
    why_not = staticmethod(why_not)
    version = staticmethod(version)

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``."""
        broker = stack.enter_context(ActiveMQProcess(directory, durable))
        stomp, mqtt = (f"{broker.host}:{port}" for port in broker.ports)
        meaning = (
            "KahaDB, journalDiskSyncStrategy always: a confirmation follows the sync"
            if durable
            else "none: persistent is false, all is in memory"
        )
        return Running(
            version=version(),
            urls={"mqtt": f"mqtt://{mqtt}", "stomp": f"stomp://{stomp}"},
            pid=broker.pid,
            settings={"heap": f"{HEAP_MIB} MiB", "durability": meaning},
            restart=broker.restart,
        )
