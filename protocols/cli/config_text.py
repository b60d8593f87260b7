"""The configuration for people: what each key means, the example file, the table of the docs.

A test holds ``KEYS`` to the structs of ``broker/config.py``: every key is there, and no other.
"""

from typing import Any

import msgspec

from ...broker.config import Auth, Config, Listener, Logging, Storage, StreamTable
from ...broker.jwt import JwtSettings
from ...broker.limits import Limits, SessionPolicy
from ...broker.mqtt_options import MqttOptions
from ...broker.settings import QueueSettings
from ...broker.stomp_options import StompOptions
from ...broker.webhook_policy import WebhookPolicy
from .output import readable_bytes, readable_ms

__all__ = ["KEYS", "default_of", "example", "key_rows", "reference", "unit_of"]

KEYS: dict[str, str] = {
    "data": "Directory that holds the messages; made when it is missing.",
    "listeners": "Where to listen: URLs, or tables with the keys below.",
    "listeners.url": "`SCHEME://HOST:PORT`, see above. Port 0: any free one.",
    "listeners.tls_certificate": "PEM file with the certificate and its chain.",
    "listeners.tls_key": "PEM file with the private key.",
    "listeners.tls_client_ca": "PEM file with the authorities of clients' certificates.",
    "listeners.tls_client": "Clients' certificates: `none`, `optional` or `required`.",
    "listeners.certificate_user": "The certificate's name is the user; it needs no password.",
    "listeners.certificate_name": "Which name: `cn`, `san-dns`, `san-uri` or `san-email`.",
    "listeners.origins": "Web sites whose pages may connect beside the host's own. `*`: all.",
    "listeners.mqtt": "The keys of `mqtt`, for this listener only.",
    "listeners.stomp": "The keys of `stomp`, for this listener only.",
    "drain_ms": "How long connections may take to finish when the daemon stops.",
    "mqtt.receive_maximum": "QoS 1 and 2 messages a client may have unacknowledged.",
    "mqtt.receive_maximum_strict": "Close a client that exceeds it; `false` only counts.",
    "mqtt.in_flight_maximum": "QoS 1 and 2 messages sent ahead of a client's acknowledgements.",
    "mqtt.topic_alias_maximum": "Topic aliases a client may use.",
    "mqtt.topic_alias_maximum_out": "Topic aliases used towards a client that allows them.",
    "mqtt.maximum_packet_size_bytes": "Largest packet taken from a client.",
    "mqtt.server_keep_alive_seconds": "Keep-alive of every MQTT 5 client. 0: its own.",
    "mqtt.keep_alive_seconds_max": "Longest keep-alive of an MQTT 5 client. 0: no limit.",
    "mqtt.maximum_qos": "Highest QoS.",
    "mqtt.retain_available": "Whether messages may be retained.",
    "mqtt.wildcard_available": "Whether filters may have wildcards.",
    "mqtt.shared_available": "Whether subscriptions may be shared.",
    "mqtt.subscription_identifiers_available": "Whether subscriptions may have identifiers.",
    "mqtt.overlapping": "What several subscriptions match comes `once`, or for `each`.",
    "mqtt.session_expiry_seconds_max": "How long a session may outlive its connection.",
    "mqtt.session_expiry_v3_seconds": "How long one of MQTT 3 does; at most the one above.",
    "mqtt.allow_zero_length_client_id": "Choose an id for a client that brings none.",
    "mqtt.redirect": "Refuse every client: `use-another` server, or it has `moved`. Empty: no.",
    "mqtt.server_reference": "The other server, told to MQTT 5 clients.",
    "mqtt.response_information": "Prefix of response topics, for MQTT 5 clients that ask.",
    "mqtt.user_properties_max": "User properties of one packet.",
    "mqtt.filters_per_subscribe_max": "Filters of one SUBSCRIBE.",
    "stomp.dialect": "Whose conventions hold: `activemq` or `rabbitmq`.",
    "stomp.heart_beat_ms_min": "Shortest time between heart-beats, either way. 0: none at all.",
    "log.level": "`debug`, `info`, `warning` or `error`.",
    "log.format": "`text`, `json`, or `auto`: text on a terminal, JSON lines otherwise.",
    "storage.segment_bytes": "Size of one file of the log.",
    "storage.read_cache_bytes": "Memory for messages that were read back from disk.",
    "storage.cold_compress": "Compress old records of streams, if zstd is installed.",
    "limits.body_bytes_max": "Largest body of a message.",
    "limits.headers_bytes_max": "Largest sum of a message's headers.",
    "limits.headers_count_max": "Headers of a message.",
    "limits.batch_messages_max": "Messages sent by one call.",
    "limits.receive_messages_max": "Messages received by one call.",
    "limits.receive_bytes_max": "Bytes received by one call, if it is not a single message.",
    "limits.receive_wait_ms_max": "How long one receive may wait.",
    "limits.queues_max": "Queues.",
    "limits.consumers_per_queue_max": "Consumers of one queue.",
    "limits.queues_per_subscription_max": "Queues of one subscription to wildcards.",
    "limits.credit_max": "Messages pushed to one consumer ahead of its acknowledgements.",
    "limits.in_flight_messages_max": "Leased messages of one queue.",
    "limits.fifo_lookahead_messages_max": "How far a FIFO queue looks for a free message group.",
    "limits.sticky_groups_max": "Message groups that a queue with group affinity tells apart.",
    "limits.sticky_lookahead_messages_max": "Messages passed over for consumers without credit.",
    "limits.view_lookahead_messages_max": "How far a queue that shows a stream looks ahead.",
    "limits.group_bytes_max": "Length of a message group's name.",
    "limits.dedup_id_bytes_max": "Length of a deduplication id.",
    "limits.dedup_ids_max": "Deduplication ids remembered by one FIFO queue.",
    "limits.dedup_window_ms": "How long a deduplication id is remembered.",
    "limits.receive_attempts_max": "Receive attempt ids remembered by one FIFO queue.",
    "limits.pending_bytes_max": "Bytes taken but not yet on disk; above half, senders are slowed.",
    "limits.memory_bytes_max": "Bytes of messages in `memory` queues; above, they take no more.",
    "limits.cache_bytes_max": "Memory for the newest messages.",
    "limits.disk_free_bytes_min": "Below that much free disk, new messages are refused.",
    "limits.reserve_bytes": "Disk kept aside, so that acknowledging goes on when it is full.",
    "limits.browse_messages_max": "Messages looked at by one call.",
    "limits.redrive_tasks_max": "Redrives that run at the same time.",
    "limits.replay_tasks_max": "Replays of archives that run at the same time.",
    "limits.topic_bytes_max": "Length of a topic or a filter.",
    "limits.topic_levels_max": "Levels of a topic or a filter.",
    "limits.subscriptions_max": "Subscriptions of all sessions together.",
    "limits.subscriptions_per_session_max": "Subscriptions of one session.",
    "limits.shared_groups_max": "Groups of shared subscriptions.",
    "limits.filter_shapes_max": "Different places of + and # in all filters together.",
    "limits.filter_shapes_per_session_max": "Of these, those that one session may bring.",
    "limits.bindings_max": "Bindings of topics to queues, streams and webhooks.",
    "limits.bindings_per_filter_max": "Of these, those of one topic filter.",
    "limits.fanout_bytes_max": "Bytes written for one message whose bound targets differ.",
    "limits.transaction_steps_max": "Messages, records, receipts and schedules in one transaction.",
    "limits.transaction_bytes_max": "Bytes written for one transaction.",
    "limits.schedules_max": "Messages that are scheduled.",
    "limits.schedules_bytes_max": "How much they may take in all.",
    "limits.match_cache_topics_max": "Topics whose subscribers are remembered.",
    "limits.match_cache_targets_max": "Subscribers remembered for all of these topics, 200 bytes"
    " each.",
    "limits.sessions_max": "Sessions, connected or not.",
    "limits.session_messages_max": "Messages waiting in one session; then `sessions.overflow`.",
    "limits.session_bytes_max": "Bytes waiting in one session; then `sessions.overflow`.",
    "limits.session_expiry_ms_max": "How long any session may outlive its connection.",
    "limits.live_queue_messages_max": "Messages waiting for one connection and kept nowhere else.",
    "limits.live_queue_bytes_max": "Bytes of them.",
    "limits.retained_messages_max": "Topics that retain a message.",
    "limits.retained_bytes_max": "Bytes of all retained messages.",
    "limits.retained_message_bytes_max": "Largest body of a retained message.",
    "limits.retained_expiry_ms": "No message is retained longer. 0: no end.",
    "limits.streams_max": "Streams.",
    "limits.shards_max": "Shards of all streams together.",
    "limits.shards_per_stream_max": "Open shards of one stream.",
    "limits.stream_reads_waiting_max": "Reads that wait at the end of a shard.",
    "limits.shard_hot_bytes_max": "Bytes of a shard in the log; then they move to its files.",
    "limits.shard_hot_lag_bytes_max": "Bytes of log behind its oldest record there; then too.",
    "limits.groups_per_stream_max": "Consumer groups of one stream.",
    "limits.members_per_group_max": "Members of one group.",
    "limits.group_release_ms": "For a member to finish with a shard that moves to another.",
    "limits.webhooks_max": "Webhooks.",
    "limits.connections_max": "Connections.",
    "limits.connections_unauthenticated_max": "Connections that have not logged in yet.",
    "limits.connections_per_address_max": "Connections from one address. 0: no limit.",
    "limits.connects_per_address_per_minute_max": "New ones from an address. 0: no limit.",
    "limits.frame_bytes_max": "Largest frame of the native protocol.",
    "limits.frame_bytes_unauthenticated_max": "The same before login.",
    "limits.handshake_ms_max": "How long a connection may take to log in.",
    "limits.heartbeat_ms_max": "Longest silence of a connection.",
    "limits.outbound_bytes_max": "Bytes waiting for one connection before pushing pauses.",
    "limits.requests_in_flight_max": "Requests of one connection that wait for an answer.",
    "sessions.overflow": "At the limit: `drop-oldest`, `drop-newest`, or `refuse` the publisher.",
    "sessions.durability": "`sync`: on disk; `os`: survives the process.",
    "webhooks.enabled": "Whether webhooks are posted at all.",
    "webhooks.allow": "Networks and host names that may be called beside what is public.",
    "webhooks.ports": "Ports that may be called.",
    "webhooks.concurrency_max": "Requests of all webhooks at the same time.",
    "webhooks.ca_file": "PEM file with authorities trusted beside those of the system.",
    "webhooks.public_url": "Where others reach this broker's HTTP port, for SubscribeURL.",
    "webhooks.signing_key": "PEM file with an RSA key that signs envelopes as SNS does.",
    "webhooks.signing_certificate_url": "Where receivers find its certificate.",
    "auth.jwt": "Whose tokens are taken in place of a password: a table with the keys below.",
    "auth.jwt.algorithms": "Those that are accepted, such as `RS256`, `ES256`, `EdDSA`, `HS256`.",
    "auth.jwt.keys": "By `kid`: a public key as PEM, or a secret of at least 32 bytes.",
    "auth.jwt.issuer": "What `iss` has to be. Empty: anything.",
    "auth.jwt.audience": "What `aud` has to be or contain. Empty: a token must have none.",
    "auth.jwt.user_claim": "The claim that names the user.",
    "auth.jwt.leeway_seconds": "How far clocks may differ.",
    "users.NAME.password_hash": "What `braidmq user hash` prints. Empty: no password opens it.",
    "users.NAME.rules": "What the user may do: a list of `{effect, actions, names}`.",
    "streams.NAME.shards": "How many shards it begins with.",
    "streams.NAME.durability": "`sync`: on disk; `os`: survives the process; `memory`. Fixed.",
    "streams.NAME.retention_ms": "No record can be read for longer. 0: for ever.",
    "streams.NAME.retention_bytes": "The oldest records make way beyond that. 0: no limit.",
    "streams.NAME.record_bytes_max": "Largest record: key, headers and body.",
    "streams.NAME.shard_bytes_in_per_second": "What a shard takes before it throttles. 0: all.",
    "streams.NAME.shard_records_in_per_second": "The same in records.",
    "streams.NAME.shard_bytes_out_per_second": "What a shard gives before it throttles.",
    "streams.NAME.tags": "Names and values for your own use.",
    "queues.NAME.fifo": "Message groups in order, and deduplication. Fixed once declared.",
    "queues.NAME.durability": "`sync`: on disk; `os`: survives the process; `memory`. Fixed.",
    "queues.NAME.visibility_timeout_ms": "How long a received message is leased.",
    "queues.NAME.delay_ms": "Every message waits so long before its first delivery.",
    "queues.NAME.ttl_ms": "Time to live of messages that bring none. 0: no end.",
    "queues.NAME.retention_ms": "No message is kept longer. 0: no end.",
    "queues.NAME.max_receives": "After so many receives a message is a dead letter. 0: never.",
    "queues.NAME.dead_letter": "Queue for dead letters; declared when it is missing.",
    "queues.NAME.dead_letter_expired": "Expired messages become dead letters too.",
    "queues.NAME.messages_max": "How many messages it holds. 0: no limit.",
    "queues.NAME.bytes_max": "How many bytes it holds. 0: no limit.",
    "queues.NAME.overflow": "When it is full: `reject`, `drop-oldest` or `dead-letter`.",
    "queues.NAME.content_dedup": "FIFO: the body identifies a message that has no id.",
    "queues.NAME.dedup_scope": "FIFO: an id is unique in the `queue` or in its `group`.",
    "queues.NAME.group_affinity": "A group's messages go to one consumer as long as it is there.",
    "queues.NAME.stream": "The queue shows the records of this stream. Fixed, as the next two are.",
    "queues.NAME.start": "Where it begins: `earliest`, `latest`, or at a `time`.",
    "queues.NAME.start_ms": "That time, unix ms.",
    "queues.NAME.tags": "Names and values for your own use.",
}

_STRUCTS: dict[str, Any] = {
    "": Config,
    "listeners": Listener,
    "mqtt": MqttOptions,
    "stomp": StompOptions,
    "log": Logging,
    "storage": Storage,
    "limits": Limits,
    "sessions": SessionPolicy,
    "webhooks": WebhookPolicy,
    "auth": Auth,
    "auth.jwt": JwtSettings,
    "streams.NAME": StreamTable,
    "queues.NAME": QueueSettings,
}

_HEAD = """\
# BraidMQ configuration. Every line that begins with "#" and a key shows a default.
# A duration may be written "30s", "5m", "12h" or "4d", a size "64KiB" or "4MiB".
# braidmq config check FILE says what is wrong with it.
"""
_USERS_STREAMS_AND_QUEUES = """
# Who may log in. As long as there is no user, everybody on this machine may do everything, and
# nobody else can connect. braidmq user hash NAME prints such a table.
#
# [users.alice]
# password_hash = "$argon2id$..."
# rules = [
#     { effect = "allow", actions = ["queue:*"], names = ["orders", "orders-*"] },
#     { effect = "deny", actions = ["queue:Delete"], names = ["*"] },
# ]

# Whose tokens are taken in place of a password; what their users may do is said above.
#
# [auth.jwt]
# algorithms = ["RS256"]
# issuer = "https://login.example.org"
# keys.main = "-----BEGIN PUBLIC KEY-----..."

# Streams and queues to declare at start.
#
# [streams.orders-log]
# shards = 4
# retention_ms = "7d"
#
# [queues.orders]
# visibility_timeout_ms = "2m"
# max_receives = 5
# dead_letter = "orders-dlq"
#
# [queues."pay.fifo"]
# fifo = true
#
# [queues.billing]
# stream = "orders-log"
"""


def default_of(key: str) -> object:
    """The default of a key, as TOML holds it; None when it must be given."""
    folder, _, name = key.rpartition(".")
    if key == "listeners":
        return [listener.url for listener in Config().listeners]
    if folder == "users.NAME":
        return "" if name == "password_hash" else []
    fields = {field.name: field for field in msgspec.structs.fields(_STRUCTS[folder])}
    if fields[name].required:
        return None
    if fields[name].default is msgspec.NODEFAULT:
        return fields[name].default_factory()
    value = fields[name].default
    if value is None or isinstance(value, msgspec.Struct):
        return {}
    if isinstance(value, tuple):
        return list(value)
    return value.name.lower() if hasattr(value, "name") else value


def unit_of(key: str) -> str:
    """What a number counts: ms, seconds, bytes, or nothing in particular."""
    name = key.rpartition(".")[2]
    if "_ms" in name:
        return "ms"
    if "_seconds" in name:
        return "s"
    return "bytes" if "bytes" in name else ""


def key_rows() -> list[dict[str, Any]]:
    """Every key with its default, unit and meaning."""
    return [
        {"key": key, "default": default_of(key), "unit": unit_of(key), "meaning": meaning}
        for key, meaning in KEYS.items()
    ]


def _readable(value: object, unit: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value:
        if unit in ("ms", "s"):
            return readable_ms(value if unit == "ms" else 1_000 * value)
        if unit == "bytes":
            return readable_bytes(value).replace(".0 ", " ")
    return ""


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()


def reference() -> str:
    """The table of the documentation."""
    lines = ["| key | default | unit | meaning |", "|---|---|---|---|"]
    for row in key_rows():
        default = "required" if row["default"] is None else f"`{_toml(row['default'])}`"
        readable = _readable(row["default"], row["unit"])
        shown = f"{default} ({readable})" if readable else default
        lines.append(f"| `{row['key']}` | {shown} | {row['unit']} | {row['meaning']} |")
    return "\n".join(lines) + "\n"


def example() -> str:
    """A configuration file that says nothing but the defaults, in comments."""
    lines = [_HEAD]
    section = ""
    for key, meaning in KEYS.items():
        folder, _, name = key.rpartition(".")
        if folder in ("listeners", "auth", "auth.jwt", "users.NAME", "streams.NAME", "queues.NAME"):
            continue
        if folder != section:
            section = folder
            lines.append(f"\n[{folder}]")
        default = default_of(key)
        readable = _readable(default, unit_of(key))
        lines.append(f"# {meaning.replace('`', '')}" + (f" {readable}." if readable else ""))
        lines.append(f"# {name} = {_toml(default)}")
        if key == "listeners":
            lines.append(
                "# TLS: listeners = [{ url = "
                '"braids://0.0.0.0:7450", tls_certificate = "cert.pem", tls_key = "key.pem" }]'
            )
    return "\n".join(lines) + "\n" + _USERS_STREAMS_AND_QUEUES
