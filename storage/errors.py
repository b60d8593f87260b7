"""What can go wrong below the broker.

StorageError
├── Corrupt        acknowledged data is damaged; ``lsn`` says where
│   └── ColdCorrupt  it is in a cold file; ``path`` and ``offset`` say where
├── DiskFull       no room for new messages; acknowledgements and reads go on
├── Locked         another process owns the directory
├── LogFailed      a write or fdatasync failed; this log accepts nothing more
├── LogClosed      used after close
└── FormatUnknown  written by a version this one cannot read
"""

__all__ = [
    "ColdCorrupt",
    "Corrupt",
    "DiskFull",
    "FormatUnknown",
    "Locked",
    "LogClosed",
    "LogFailed",
    "StorageError",
]


class StorageError(Exception):
    """Base of everything the storage layer raises on purpose."""


class Corrupt(StorageError):
    """Data that was acknowledged cannot be read back as it was written.

    Attributes:
        lsn: the first position that is damaged.
    """

    def __init__(self, lsn: int, reason: str) -> None:
        super().__init__(f"damaged at lsn {lsn}: {reason}")
        self.lsn = lsn
        self.reason = reason


class ColdCorrupt(Corrupt):
    """Records in a cold file cannot be read back as they were written.

    Attributes:
        path: the file. offset: the byte in it from which on it is damaged. lsn: 0.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        StorageError.__init__(self, f"{path} is damaged at offset {offset}: {reason}")
        self.lsn = 0
        self.path = path
        self.offset = offset
        self.reason = reason


class DiskFull(StorageError):
    """There is no room for new messages. Nothing that was accepted is lost."""


class Locked(StorageError):
    """Another process holds the lock on the data directory."""


class LogFailed(StorageError):
    """A write or fdatasync failed, so nothing after it can be trusted; reopen to recover."""


class LogClosed(StorageError):
    """The log was closed."""


class FormatUnknown(StorageError):
    """The data directory was written in a format that this version cannot read."""
