"""Records, frames and files: the log everything else stands on."""

from .errors import (
    ColdCorrupt,
    Corrupt,
    DiskFull,
    FormatUnknown,
    Locked,
    LogClosed,
    LogFailed,
    StorageError,
)
from .filelog import FileLog
from .log import (
    BlocksCallback,
    Callback,
    ColdStore,
    ColdWriter,
    Durability,
    Extent,
    FetchCallback,
    Job,
    Log,
    LogStatistics,
    NumberCallback,
    RecoveryReport,
    Reference,
    Replay,
    Scheduler,
)
from .memory import MemoryLog
from .streams import ColdFile

__all__ = [
    "BlocksCallback",
    "Callback",
    "ColdCorrupt",
    "ColdFile",
    "ColdStore",
    "ColdWriter",
    "Corrupt",
    "DiskFull",
    "Durability",
    "Extent",
    "FetchCallback",
    "FileLog",
    "FormatUnknown",
    "Job",
    "Locked",
    "Log",
    "LogClosed",
    "LogFailed",
    "LogStatistics",
    "MemoryLog",
    "NumberCallback",
    "RecoveryReport",
    "Reference",
    "Replay",
    "Scheduler",
    "StorageError",
]
