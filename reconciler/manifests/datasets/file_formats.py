"""The file formats of data sets, and how a file is opened: compression, encoding, and limits of size."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Final, Protocol, TextIO, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import list_choices, quote
from reconciler.manifests.datasets.columnar_files import columnar_records
from reconciler.manifests.datasets.json_files import array_places, json_array, json_lines
from reconciler.manifests.datasets.records import Fault, ReadOptions, Records, UnreadableError
from reconciler.manifests.datasets.separated_values import separated_values

_Read = TypeVar("_Read")

_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/v1"
_LFS_FIELDS: Final = re.compile(
    rb"%s\n(?:ext-.*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n" % re.escape(_LFS_POINTER)
)
_MAX_POINTER: Final = 1024
MAX_BYTES: Final = 2**30
"""The largest data set that any of the services accepts."""
_BLOCK: Final = 2**18
_GZIP_WINDOW: Final = 31
"""The largest window of zlib, 15, and 16 for the header of gzip; the header has no time."""
_UTF_8: Final = "utf-8-sig"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_COMPRESSED: Final = {b"\x1f\x8b": "gzip", _ZSTD: "zstd"}
"""The compressions by the first bytes of a file."""
_COLUMNAR_STARTS: Final = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_COMPRESS_AGAIN: Final = "compress it again, or download it again"
_ZIP: Final = b"PK\x03\x04"
_WORKBOOK: Final = "an Excel workbook"
_SAVE_AS_CSV: Final = "save the sheet as CSV in UTF-8"
_FOREIGN: Final = (
    (_ZIP, _WORKBOOK, _SAVE_AS_CSV),
    (_ZIP, "a ZIP archive", "extract the data file from it, and name that file"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of an old version", _SAVE_AS_CSV),
    (b"%PDF-", "a PDF document", "export the data as CSV in UTF-8"),
    (b"SQLite format 3\0", "a SQLite database", "export a table as CSV in UTF-8"),
    (b"BZh", "compressed with bzip2", "decompress it, or compress it with gzip or zstd"),
    (b"\xfd7zXZ", "compressed with xz", "decompress it, or compress it with gzip or zstd"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "extract the data file from it, and name that file"),
)
"""The starts of files that are not read, with a name for users, and the remedy."""
_HTML: Final = re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html[\s>])", re.IGNORECASE)
_MARKDOWN: Final = re.compile(rb"(\xef\xbb\xbf)?\s*\|[^\n]*\|[ \r]*\n[ ]*\|[ :-]*-[ :|-]*\|[ \r]*\n")
_TAR_AT: Final = 257
_SNIFFED: Final = 2**12
"""The number of bytes at the start of a file by which its kind is recognized."""
_LEAST_NUL_SHARE: Final = 0.2
"""The share of NUL bytes at every other position from which on a file without a byte order mark is UTF-16."""
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class LfsPointer(Struct, frozen=True):
    """The SHA-256 and the size in bytes of a file that Git LFS stores (docs/spec.md of git-lfs)."""

    oid: str
    size: int


def read_pointer(file: Path) -> LfsPointer | None:
    """Return the Git LFS pointer that a file contains in place of its data; ``None`` for other files."""
    with file.open("rb") as binary:
        found = _LFS_FIELDS.match(binary.read(_MAX_POINTER))
    return LfsPointer(found[1].decode(), int(found[2])) if found else None


class FileFormat(Struct, frozen=True):
    """How to read a file of one format: ``records`` for its text, or ``binary``.

    ``newline`` ends the lines (empty: any of the three line breaks). ``places`` are those of the records, in a text
    whose records are not counted by lines.
    """

    newline: str
    records: Callable[[TextIO, ReadOptions], Records] | None = None
    binary: Callable[[Path, ReadOptions], Records] | None = None
    places: Callable[[TextIO, ReadOptions], Iterator[tuple[int, int]]] | None = None
    max_bytes: int = MAX_BYTES
    too_large: str = "use fewer examples; no service accepts more"
    counts_lines: bool = True


def _table(delimiter: str) -> FileFormat:
    return FileFormat("", partial(separated_values, delimiter=delimiter))


_COLUMNAR: Final = FileFormat("", binary=columnar_records, counts_lines=False)

FORMATS: Final[Mapping[str, FileFormat]] = {
    "csv": _table(","),
    "tsv": _table("\t"),
    "jsonl": FileFormat("\n", json_lines),
    "json": FileFormat("\n", json_array, places=array_places, counts_lines=False),
    "parquet": _COLUMNAR,
    "arrow": _COLUMNAR,
}
"""The formats by their names in manifests."""
_FORMATS_BY_SUFFIX: Final = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"} | {
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_COMPRESSIONS_BY_SUFFIX: Final = {".gz": "gzip", ".zst": "zstd"}


def complete_options(path: str, options: ReadOptions) -> ReadOptions:
    """Return the options with the format and the compression that the suffixes of a path stand for.

    Raises ReconcileError if no supported format is declared, and the suffix stands for none.
    """
    name = PurePosixPath(path.lower())
    compression = options.compression or _COMPRESSIONS_BY_SUFFIX.get(name.suffix, "none")
    suffix = (name.with_suffix("") if name.suffix in _COMPRESSIONS_BY_SUFFIX else name).suffix
    found = options.format or _FORMATS_BY_SUFFIX.get(suffix)
    if found is None:
        message = f"unsupported format {quote(suffix)}" if suffix else "unsupported format: no file suffix"
        raise ReconcileError(message, f"set {options.declared}.format to one of: {list_choices(suffix[1:], FORMATS)}")
    return replace(options, format=found, compression=compression)


def names_data_file(name: str) -> bool:
    """Return whether the name of a file stands for a format."""
    try:
        complete_options(name, ReadOptions())
    except ReconcileError:
        return False
    return True


def file_records(file: Path, options: ReadOptions) -> Records:
    """Yield the records of a data file, which is read as they are consumed."""
    options = complete_options(file.name, options)
    file_format = FORMATS[options.format]
    if file_format.records:
        return _read(file, options, file_format.records)
    return _read_binary(file, options, file_format)


def _read_binary(file: Path, options: ReadOptions, file_format: FileFormat) -> Records:
    if file_format.binary is None:
        raise AssertionError(options.format)
    try:
        with file.open("rb") as binary:
            too_large = os.fstat(binary.fileno()).st_size > file_format.max_bytes
        if too_large:
            yield _too_large(file_format)
        else:
            yield from file_format.binary(file, options)
    except OSError as error:
        yield Fault(0, f"cannot read the file: {error.strerror or error}", "check the path and its permissions")
    except UnreadableError as error:
        yield error.fault


def record_places(file: Path, options: ReadOptions) -> array[int] | None:
    """Return the line and column of each record, one after the other, in 8 bytes together.

    ``None`` in a format in which the number of a record is its line.
    """
    places = FORMATS[options.format].places
    if places is None:
        return None
    found = (place for place in _read(file, options, places) if not isinstance(place, Fault))
    return array("I", chain.from_iterable(found))


def _read(
    file: Path, options: ReadOptions, read: Callable[[TextIO, ReadOptions], Iterator[_Read]]
) -> Iterator[_Read | Fault]:
    file_format = FORMATS[options.format]
    try:
        if fault := _unreadable(file, options, file_format):
            yield fault
            return
        with open_text(file, options) as text:
            yield from read(text, options)
    except _decompression_errors() as error:
        with file.open("rb") as binary:
            is_compressed = binary.read(_SNIFFED).startswith(tuple(_COMPRESSED))
        if is_compressed:
            yield Fault(0, f"the file is damaged: {error}", _COMPRESS_AGAIN)
            return
        remedy = f"{_COMPRESS_AGAIN}, or set {options.declared}.compression to none if it is not compressed"
        yield Fault(0, f"cannot decompress the file: {error}", remedy, option="compression")
    except OSError as error:
        yield Fault(0, f"cannot read the file: {error.strerror or error}", "check the path and its permissions")
    except UnreadableError as error:
        yield error.fault
    except UnicodeError:
        yield _undecodable(file, options)


def _encoding(options: ReadOptions) -> str:
    return _UTF_8 if codecs.lookup(options.encoding or "utf-8").name == "utf-8" else options.encoding


def _unreadable(file: Path, options: ReadOptions, file_format: FileFormat) -> Fault | None:
    """Return what is wrong with the file as a whole: its size, or content in a format that is not read."""
    with file.open("rb") as binary:
        if os.fstat(binary.fileno()).st_size > file_format.max_bytes:
            return _too_large(file_format)
        start = binary.read(_SNIFFED)
    name = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
    if name and options.compression == "none":
        remedy = f"set {options.declared}.compression to {name}"
        return Fault(0, f"the file is compressed with {name}", remedy, option="compression")
    if options.compression == "none" and (found := columnar_format(start)):
        message = f"the file is in the format {found}"
        return Fault(0, message, f"set {options.declared}.format to {found}", option="format")
    if not options.encoding and options.compression == "none" and (encoding := unmarked_utf_16(start)):
        remedy = f"set {options.declared}.encoding to {encoding}"
        return Fault(0, "the file is UTF-16 text", remedy, option="encoding")
    return next(_foreign(start), None)


def _too_large(file_format: FileFormat) -> Fault:
    return Fault(0, f"the file exceeds the limit of {file_format.max_bytes:,} bytes", file_format.too_large)


@contextmanager
def _open_bytes(file: Path, options: ReadOptions) -> Iterator[io.BufferedReader]:
    """Open a file, and decompress what is read from it up to the limit of the format."""
    with file.open("rb") as binary:
        if options.compression == "none":
            yield binary
        else:
            yield io.BufferedReader(_Limited(_decompress(binary, options.compression), FORMATS[options.format]))


@contextmanager
def open_text(file: Path, options: ReadOptions) -> Iterator[TextIO]:
    """Open the text of a data file; ``options`` are complete."""
    with _open_bytes(file, options) as binary:
        yield io.TextIOWrapper(binary, encoding=_encoding(options), newline=FORMATS[options.format].newline)


def encoded(texts: Iterable[str], options: ReadOptions, *, byte_order_mark: bool = False) -> Iterator[bytes]:
    """Yield the bytes of a data file with these texts, in the encoding and with the compression of ``options``."""
    encoding = _encoding(options)
    encoder = codecs.getincrementalencoder("utf-8" if encoding == _UTF_8 and not byte_order_mark else encoding)()
    compressor = _compressor(options.compression)
    block: list[bytes] = []
    size = 0
    for text in texts:
        data = encoder.encode(text)
        block.append(data)
        size += len(data)
        if size >= _BLOCK:
            yield compressor.compress(b"".join(block))
            block, size = [], 0
    yield compressor.compress(b"".join(block))
    yield compressor.flush()


def has_byte_order_mark(file: Path, options: ReadOptions) -> bool:
    """Return whether the text of a file in UTF-8 begins with a byte order mark."""
    with _open_bytes(file, options) as binary:
        return binary.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Uncompressed:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(compression: str) -> _Compressor:
    if compression == "gzip":
        return zlib.compressobj(wbits=_GZIP_WINDOW)
    return _zstd().ZstdCompressor() if compression == "zstd" else _Uncompressed()


class Start(Struct, frozen=True):
    """The first bytes of a file, decompressed, and its compression."""

    content: bytes
    compression: str


def read_start(file: Path, size: int) -> Start:
    """Return the first bytes of a file; its compression is recognized by its content.

    Raises ReconcileError if it cannot be read, or has a format that is not read.
    """
    try:
        with file.open("rb") as binary:
            magic = binary.read(len(_ZSTD))
            binary.seek(0)
            compression = next((name for start, name in _COMPRESSED.items() if magic.startswith(start)), "none")
            content = (_decompress(binary, compression) if compression != "none" else binary).read(size)
    except _decompression_errors() as error:
        raise ReconcileError(f"{file.name}: cannot decompress the file: {error}", _COMPRESS_AGAIN) from error
    except OSError as error:
        message = f"{file.name}: cannot be read: {error.strerror or error}"
        raise ReconcileError(message, "check the path and its permissions") from error
    if content.startswith(tuple(_COMPRESSED)):
        raise ReconcileError(f"{file.name}: the file is compressed twice", "decompress it once")
    if _MARKDOWN.match(content):
        raise ReconcileError(f"{file.name}: the file is a Markdown table, not data", "export it as CSV in UTF-8")
    for fault in _foreign(content):
        raise ReconcileError(f"{file.name}: {fault.message}", fault.remedy)
    return Start(content, compression)


def not_utf_8(file: Path, compression: str) -> bytes:
    """Return the first block of a text that is not UTF-8, with some bytes before and after; empty if all is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    options = ReadOptions(format="csv", compression=compression)
    block = b""
    try:
        with _open_bytes(file, options) as binary:
            while block := binary.read(_BLOCK):
                decoder.decode(block)
    except UnicodeDecodeError:
        return block
    except (UnreadableError, OSError):
        return b""  # reading the file says why
    except _decompression_errors():
        return b""
    return b""


def columnar_format(content: bytes) -> str:
    """Return the name of the binary format that a file starts like; empty for others."""
    return next((name for start, name in _COLUMNAR_STARTS.items() if content.startswith(start)), "")


def unmarked_utf_16(content: bytes) -> str:
    """Return the name of the encoding of UTF-16 text without a byte order mark; empty for other content."""
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if content[first::2].count(0) > len(content) * _LEAST_NUL_SHARE:
            return name
    return ""


def _foreign(content: bytes) -> Iterator[Fault]:
    """Yield what is wrong with a file of a format that is not read."""
    if content.startswith(_LFS_POINTER):
        yield Fault(0, "the file is a Git LFS pointer, not the data", "run `git lfs pull`")
    workbook = any(name in content for name in (b"[Content_Types].xml", b"docProps/", b"xl/"))
    for magic, kind, remedy in _FOREIGN:
        if content.startswith(magic) and (workbook or kind != _WORKBOOK):
            yield Fault(0, f"the file is {kind}", remedy)
            return
    if content[_TAR_AT:].startswith(b"ustar"):
        yield Fault(0, "the file is a tar archive", "extract the data file from it, and name that file")
    if _HTML.match(content):
        yield Fault(0, "the file is an HTML page, not data", "download the data itself, or export it as CSV in UTF-8")


def _decompress(binary: BinaryIO, compression: str) -> IO[bytes]:
    if compression == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=binary))
    return cast("IO[bytes]", _zstd().ZstdFile(binary))


def _decompression_errors() -> tuple[type[Exception], ...]:
    return gzip.BadGzipFile, zlib.error, EOFError, _zstd().ZstdError


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


class _Limited(io.RawIOBase):
    """A decompressed stream; raises UnreadableError where it exceeds the limit of the format."""

    def __init__(self, stream: IO[bytes], file_format: FileFormat) -> None:
        self._stream = stream
        self._format = file_format
        self._left = file_format.max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UnreadableError(_too_large(self._format))
        buffer[: len(data)] = data
        return len(data)


def _undecodable(file: Path, options: ReadOptions) -> Fault:
    """Return the fault of the first bytes that are not text in the encoding."""
    encoding, declared = options.encoding or "UTF-8", f"{options.declared}.encoding"
    decoder = codecs.getincrementaldecoder(_encoding(options))()
    line, column = 1, 1
    with _open_bytes(file, options) as binary:
        if not options.encoding and binary.peek(2)[:2] in _UTF_16:
            return Fault(0, "the file is UTF-16 text", f"set {declared} to utf-16", option="encoding")
        while True:
            block = binary.read(_BLOCK)
            try:
                text, found = decoder.decode(block, final=not block), not block
            except UnicodeDecodeError as error:
                text, found = error.object[: error.start].decode(error.encoding, "replace"), True
            line += text.count("\n")
            column = len(text) - text.rfind("\n") if "\n" in text else column + len(text)
            if found:
                break
    remedy = f"save the file as UTF-8, or set {declared} to its encoding, such as windows-1252 for files of Windows"
    return Fault(0, f"not valid {encoding}", remedy, column, "encoding", line)
