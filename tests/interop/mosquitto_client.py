"""mosquitto_sub and mosquitto_pub: the clients in C that everybody has."""

import asyncio
import re
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress

from .facade import GUARD_SECONDS, NONE, V5, V31, Client, Message, Properties, Refused, fresh_id

__all__ = ["MosquittoClient", "missing"]

# Topic, QoS, retain, then properties, then the payload in hex.
FORMAT = "message|%t|%q|%r|%C|%D|%E|%F|%R|%S|%P|%x"
LINE_BYTES_MAX = 8 * 1024 * 1024
VERSIONS = {V31: "mqttv31", 4: "mqttv311", V5: "mqttv5"}


def missing() -> str:
    """Why they cannot run here."""
    if shutil.which("mosquitto_sub") is None or shutil.which("mosquitto_pub") is None:
        return "mosquitto-clients is not installed; `make test` installs it where it may"
    return ""


def flags(properties: Properties, command: str) -> list[str]:
    """Our properties as options of the command line."""
    every: list[tuple[str, ...]] = []
    if properties.content_type:
        every.append(("content-type", properties.content_type))
    if properties.response_topic:
        every.append(("response-topic", properties.response_topic))
    if properties.correlation:
        every.append(("correlation-data", properties.correlation.decode()))
    if properties.text:
        every.append(("payload-format-indicator", "1"))
    if properties.alias is not None:
        every.append(("topic-alias", str(properties.alias)))
    if properties.expiry_seconds is not None:
        every.append(("message-expiry-interval", str(properties.expiry_seconds)))
    every += [("user-property", name, value) for name, value in properties.user]
    return [word for each in every for word in ("-D", command, *each)]


def message_of(line: str) -> Message:
    _, topic, qos, retain, content, correlation, expiry, text, response, ids, user, payload = (
        line.split("|")
    )
    properties = Properties(
        content_type=content,
        response_topic=response,
        correlation=correlation.encode(),
        text=text == "1",
        user=tuple((name, value) for name, _, value in (p.partition(":") for p in user.split())),
        expiry_seconds=int(expiry) if expiry else None,
        identifiers=tuple(int(each) for each in ids.split()),
    )
    return Message(topic, bytes.fromhex(payload), int(qos), retain == "1", properties)


class MosquittoClient(Client):
    """A mosquitto_sub, and a mosquitto_pub with an id of its own for each message.

    mosquitto_sub cannot do without a subscription, and cannot get another while it runs. So the
    first is to a topic that nobody publishes to, and each other one starts it anew.
    """

    _process: asyncio.subprocess.Process | None = None
    _reader: asyncio.Task[None] | None = None

    def _common(self, client_id: str) -> list[str]:
        login = self.options.login
        words = ["-h", self.host, "-p", str(self.port), "-V", VERSIONS[self.version]]
        words += ["-i", client_id]
        if login.username is not None:
            words += ["-u", login.username]
        if login.password is not None:
            words += ["-P", login.password]
        if self.tls:
            words += ["--cafile", login.ca]
        if login.certificate:
            words += ["--cert", login.certificate, "--key", login.key]
        return words

    async def connect(self) -> None:
        self._filters: list[tuple[str, int, int]] = []
        await self._start("-t", f"nobody/{self.options.client_id}")

    async def _start(self, *words: str) -> int:
        """Run it: the answer to its first subscription."""
        options = self.options
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-F", FORMAT]
        command += [*self._common(options.client_id), *words]
        if not options.clean:
            command += ["-c"]
        if self.version == V5 and options.expiry_seconds:
            command += ["-x", str(options.expiry_seconds)]
        if options.will is not None:
            will = options.will
            command += ["--will-topic", will.topic, "--will-payload", will.payload.decode()]
            command += ["--will-qos", str(will.qos)] + ["--will-retain"] * will.retain
            command += flags(will.properties, "will")
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
        )
        self._subscribed: asyncio.Future[int] = self.loop.create_future()
        self._reader = asyncio.create_task(self._read())
        return await asyncio.wait_for(self._subscribed, GUARD_SECONDS)

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        said = ""
        while line := (await self._process.stdout.readline()).decode().rstrip("\n"):
            if line.startswith("message|"):
                self.inbox.put_nowait(message_of(line))
                continue
            said += line + "\n"
            connack = re.search(r"received CONNACK \((\d+)\)", line)
            suback = re.match(r"Subscribed \(mid: \d+\): (\d+)", line)
            if self._subscribed.done():
                continue
            if connack and int(connack[1]):
                self._subscribed.set_exception(Refused(int(connack[1])))
            elif suback:
                self._subscribed.set_result(int(suback[1]))
        if not self._subscribed.done():
            self._subscribed.set_exception(ConnectionError(said))

    async def subscribe(self, filter: str, qos: int = 0, identifier: int = 0) -> int:
        await self._stop(signal.SIGTERM)
        words = ["-t", filter]
        for each in self._filters:
            words += ["-t", each[0]]
        self._filters.append((filter, qos, identifier))
        more = ["-D", "subscribe", "subscription-identifier", str(identifier)] if identifier else []
        return await self._start("-q", str(qos), *words, *more)

    async def publish(self, topic, payload=b"", qos=0, retain=False, properties=NONE) -> None:
        words = [
            "-t",
            topic,
            "-q",
            str(qos),
            "-s" if payload else "-n",
            *(["-r"] if retain else []),
        ]
        words += flags(properties, "publish") if self.version == V5 else []
        await self._run_pub(words, payload)

    async def publish_all(self, topic: str, payloads: Sequence[bytes], qos: int) -> None:
        await self._run_pub(["-t", topic, "-q", str(qos), "-l"], b"\n".join(payloads) + b"\n")

    async def _run_pub(self, words: list[str], data: bytes) -> None:
        process = await asyncio.create_subprocess_exec(
            "mosquitto_pub",
            *self._common(fresh_id()),
            *words,
            stdin=asyncio.subprocess.PIPE if data else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(data or None), GUARD_SECONDS)
        assert process.returncode == 0, said
        if b"failed: " in said:
            raise Refused(0x87 if b"Not authorized" in said else 0x80)

    async def leave(self) -> None:
        await self._stop(signal.SIGTERM)

    async def vanish(self) -> None:
        await self._stop(signal.SIGKILL)

    async def _stop(self, number: signal.Signals) -> None:
        assert self._process is not None and self._reader is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        await asyncio.wait_for(self._process.wait(), GUARD_SECONDS)
        await asyncio.wait_for(self._reader, GUARD_SECONDS)
