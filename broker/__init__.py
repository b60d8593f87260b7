"""The broker, for programs: ``async with Broker("./data") as broker: ...``

The nouns and every decision, without sockets, files or a clock; only ``runtime.py`` and ``face.py``
know the event loop. What is not named here may change without notice. Names are loaded when they
are first used, so that importing a part does not pay for the whole.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .access import (
        Access,
        Principal,
        Rule,
        User,
    )
    from .bindingverbs import (
        BindingInfo,
    )
    from .errors import (
        BraidError,
        BrokerFailed,
        Conflict,
        Disconnected,
        InFlightFull,
        InvalidArgument,
        LeaseLost,
        LimitExceeded,
        NoResponders,
        NotFound,
        Overloaded,
        PermissionDenied,
        QueueFull,
        StorageFull,
        Throttled,
        TooLarge,
        Unauthenticated,
        Unavailable,
    )
    from .face import (
        BrokerFace,
        Queue,
    )
    from .groupface import (
        Batch,
        ConsumerGroup,
        GroupMember,
    )
    from .groupverbs import (
        GroupInfo,
    )
    from .limits import (
        Limits,
        SessionPolicy,
    )
    from .received import (
        Message,
        MessageConsumer,
    )
    from .recordreader import (
        Position,
        RecordBatch,
        RecordReader,
    )
    from .replayverbs import (
        ReplayInfo,
    )
    from .retry_policy import (
        RetryPolicy,
    )
    from .runtime import (
        Broker,
    )
    from .scheduleverbs import (
        ScheduleInfo,
    )
    from .settings import (
        QueueSettings,
    )
    from .signing import (
        SignatureInvalid,
        verify_body,
        verify_envelope,
    )
    from .stream_settings import (
        StreamSettings,
    )
    from .streamface import (
        NewRecord,
        Stream,
        StreamChanges,
        StreamOptions,
    )
    from .streamrecord import (
        Record,
    )
    from .streamverbs import (
        ShardInfo,
        StreamInfo,
    )
    from .topicface import (
        TopicMessage,
        TopicMessages,
    )
    from .values import (
        BrowsedMessage,
        NewMessage,
        NewPublication,
        QueueChanges,
        QueueOptions,
        SentMessage,
    )
    from .verbs import (
        BrokerInfo,
        LevelInfo,
        QueueInfo,
        RedriveInfo,
        SessionInfo,
        TopicInfo,
        Verbs,
    )
    from .webhook import (
        WebhookInfo,
    )
    from .webhook_policy import (
        WebhookPolicy,
    )
    from .webhookface import (
        WebhookOptions,
    )

__all__ = [
    "Access",
    "Batch",
    "BindingInfo",
    "BraidError",
    "Broker",
    "BrokerFace",
    "BrokerFailed",
    "BrokerInfo",
    "BrowsedMessage",
    "Conflict",
    "ConsumerGroup",
    "Disconnected",
    "GroupInfo",
    "GroupMember",
    "InFlightFull",
    "InvalidArgument",
    "LeaseLost",
    "LevelInfo",
    "LimitExceeded",
    "Limits",
    "Message",
    "MessageConsumer",
    "NewMessage",
    "NewPublication",
    "NewRecord",
    "NoResponders",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Position",
    "Principal",
    "Queue",
    "QueueChanges",
    "QueueFull",
    "QueueInfo",
    "QueueOptions",
    "QueueSettings",
    "Record",
    "RecordBatch",
    "RecordReader",
    "RedriveInfo",
    "ReplayInfo",
    "RetryPolicy",
    "Rule",
    "ScheduleInfo",
    "SentMessage",
    "SessionInfo",
    "SessionPolicy",
    "ShardInfo",
    "SignatureInvalid",
    "StorageFull",
    "Stream",
    "StreamChanges",
    "StreamInfo",
    "StreamOptions",
    "StreamSettings",
    "Throttled",
    "TooLarge",
    "TopicInfo",
    "TopicMessage",
    "TopicMessages",
    "Unauthenticated",
    "Unavailable",
    "User",
    "Verbs",
    "WebhookInfo",
    "WebhookOptions",
    "WebhookPolicy",
    "verify_body",
    "verify_envelope",
]

_MODULES = {
    "access": (
        "Access",
        "Principal",
        "Rule",
        "User",
    ),
    "bindingverbs": ("BindingInfo",),
    "errors": (
        "BraidError",
        "BrokerFailed",
        "Conflict",
        "Disconnected",
        "InFlightFull",
        "InvalidArgument",
        "LeaseLost",
        "LimitExceeded",
        "NoResponders",
        "NotFound",
        "Overloaded",
        "PermissionDenied",
        "QueueFull",
        "StorageFull",
        "Throttled",
        "TooLarge",
        "Unauthenticated",
        "Unavailable",
    ),
    "face": (
        "BrokerFace",
        "Queue",
    ),
    "groupface": (
        "Batch",
        "ConsumerGroup",
        "GroupMember",
    ),
    "groupverbs": ("GroupInfo",),
    "limits": ("Limits", "SessionPolicy"),
    "received": (
        "Message",
        "MessageConsumer",
    ),
    "replayverbs": ("ReplayInfo",),
    "retry_policy": ("RetryPolicy",),
    "recordreader": (
        "Position",
        "RecordBatch",
        "RecordReader",
    ),
    "runtime": ("Broker",),
    "scheduleverbs": ("ScheduleInfo",),
    "settings": ("QueueSettings",),
    "signing": (
        "SignatureInvalid",
        "verify_body",
        "verify_envelope",
    ),
    "streamface": (
        "NewRecord",
        "Stream",
        "StreamChanges",
        "StreamOptions",
    ),
    "streamrecord": ("Record",),
    "streamverbs": (
        "ShardInfo",
        "StreamInfo",
    ),
    "stream_settings": ("StreamSettings",),
    "topicface": (
        "TopicMessage",
        "TopicMessages",
    ),
    "values": (
        "BrowsedMessage",
        "NewMessage",
        "NewPublication",
        "QueueChanges",
        "QueueOptions",
        "SentMessage",
    ),
    "verbs": (
        "BrokerInfo",
        "LevelInfo",
        "QueueInfo",
        "RedriveInfo",
        "SessionInfo",
        "TopicInfo",
        "Verbs",
    ),
    "webhook": ("WebhookInfo",),
    "webhook_policy": ("WebhookPolicy",),
    "webhookface": ("WebhookOptions",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
