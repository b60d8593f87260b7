"""Records, frames and files: the log everything else stands on."""

from .errors import (
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
    Callback,
    Durability,
    Extent,
    FetchCallback,
    Job,
    Log,
    LogStatistics,
    RecoveryReport,
    Reference,
    Replay,
    Scheduler,
)
from .memory import MemoryLog

__all__ = [
    "Callback",
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
    "RecoveryReport",
    "Reference",
    "Replay",
    "Scheduler",
    "StorageError",
]
