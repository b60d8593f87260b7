"""How the content of a cold file's frame is stored: as it is, or compressed with zstd.

zstd is there when the extra ``[zstd]`` is installed. What was compressed needs it for ever, so a
file says of each frame which codec it has, and without zstd only those frames cannot be read.
"""

from .errors import FormatUnknown

__all__ = ["PLAIN", "ZSTD", "Compressor", "decompress"]

# Codecs. Numbers are on disk: never reuse one.
PLAIN = 0
ZSTD = 1

_LEVEL = 1  # of zstd: it keeps up with the disk, and its ratio is near that of the slower ones
_WORTH = 3 / 4  # of its size: what stays larger costs every reader more than the disk gains
_SAMPLE_BYTES = 64 * 1024  # are tried first: most of what is not worth it is known by them


class Compressor:
    """Compresses for one thread at a time."""

    def __init__(self, compress: bool = True) -> None:
        """With ``compress``, as far as zstd is installed."""
        self._zstd = None
        if compress:
            try:
                import zstandard
            except ImportError:
                return
            self._zstd = zstandard.ZstdCompressor(level=_LEVEL)

    def compress(self, plain: bytes) -> tuple[int, bytes]:
        """(codec, content): what is not worth compressing stays as it is."""
        if self._shrunk(plain[:_SAMPLE_BYTES]) is not None:
            content = self._shrunk(plain)
            if content is not None:
                return ZSTD, content
        return PLAIN, plain

    def _shrunk(self, plain: bytes) -> bytes | None:
        """What zstd makes of it, when that is worth it."""
        if self._zstd is None:
            return None
        content = self._zstd.compress(plain)
        return content if len(content) <= len(plain) * _WORTH else None


def decompress(codec: int, content: bytes, plain_bytes: int) -> bytes:
    """The ``plain_bytes`` bytes that ``content`` stands for; takes no more memory than that.

    Raises:
        FormatUnknown: zstd is not installed, or the codec is of a later version.
        ValueError: it is something else than so many bytes.
    """
    if codec == PLAIN:
        plain = content
    elif codec == ZSTD:
        plain = _decompress(content, plain_bytes)
    else:
        raise FormatUnknown(f"codec {codec} is not known to this BraidMQ")
    if len(plain) != plain_bytes:
        raise ValueError(f"{len(plain)} bytes where {plain_bytes} should be")
    return plain


def _decompress(content: bytes, plain_bytes: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise FormatUnknown(
            "it is compressed with zstd, which is not installed: pip install 'braidmq[zstd]'"
        ) from None
    try:
        if zstandard.frame_content_size(content) > plain_bytes:
            raise ValueError("it is longer than it says")
        plain: bytes = zstandard.ZstdDecompressor().decompress(content, plain_bytes)
    except zstandard.ZstdError as error:
        raise ValueError(f"it cannot be decompressed: {error}") from None
    return plain
