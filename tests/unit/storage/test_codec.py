"""Codecs: what is stored comes back, in so many bytes, or there is one documented error."""

import random
import sys

import pytest
import zstandard

from braidmq.storage import FormatUnknown
from braidmq.storage.codec import PLAIN, ZSTD, Compressor, decompress

TEXT = b"the same again and again, " * 100
NOISE = random.Random(1).randbytes(2000)


def test_what_is_compressed_comes_back():
    codec, content = Compressor().compress(TEXT)
    assert codec == ZSTD and len(content) < len(TEXT) // 10
    assert decompress(codec, content, len(TEXT)) == TEXT


@pytest.mark.parametrize("compressor", [Compressor(), Compressor(compress=False)])
def test_what_is_not_worth_it_stays_as_it_is(compressor):
    assert compressor.compress(NOISE) == (PLAIN, NOISE)
    assert decompress(PLAIN, NOISE, len(NOISE)) is NOISE


def test_what_gets_a_quarter_smaller_is_worth_it():
    for bits, codec in ((5, ZSTD), (7, PLAIN)):
        plain = bytes(byte >> (8 - bits) for byte in random.Random(2).randbytes(100_000))
        assert Compressor().compress(plain)[0] == codec


def test_its_beginning_has_to_be_worth_it_and_all_of_it():
    noise, text = random.Random(3).randbytes(500_000), TEXT * 200
    compressor = Compressor()
    assert compressor.compress(noise + text)[0] == PLAIN, "noise comes first"
    assert compressor.compress(text[:100_000] + noise)[0] == PLAIN, "most of it is noise"
    assert compressor.compress(text + noise[:100_000])[0] == ZSTD


def test_nothing_is_compressed_when_it_is_not_wanted():
    assert Compressor(compress=False).compress(TEXT) == (PLAIN, TEXT)


def test_without_zstd_nothing_is_compressed_and_what_is_cannot_be_read(monkeypatch):
    _, content = Compressor().compress(TEXT)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert Compressor().compress(TEXT) == (PLAIN, TEXT)
    with pytest.raises(FormatUnknown, match=r"pip install 'braidmq\[zstd\]'"):
        decompress(ZSTD, content, len(TEXT))


def test_a_codec_of_later_is_unknown():
    with pytest.raises(FormatUnknown, match="codec 2"):
        decompress(2, TEXT, len(TEXT))


UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)


@pytest.mark.parametrize("plain_bytes", [0, 1, len(TEXT) - 1, len(TEXT) + 1])
@pytest.mark.parametrize(
    "codec_content", [Compressor().compress(TEXT), (ZSTD, UNSIZED), (PLAIN, TEXT)]
)
def test_another_length_than_it_says_is_refused(codec_content, plain_bytes):
    codec, content = codec_content
    with pytest.raises(ValueError, match=r"bytes|long|decompressed"):
        decompress(codec, content, plain_bytes)


def test_garbage_is_refused():
    _, content = Compressor().compress(TEXT)
    for garbage in (b"", NOISE, content[:-3], content[3:]):
        with pytest.raises(ValueError, match="cannot be decompressed"):
            decompress(ZSTD, garbage, len(TEXT))


def test_the_numbers_on_disk_stay():
    assert (PLAIN, ZSTD) == (0, 1)
