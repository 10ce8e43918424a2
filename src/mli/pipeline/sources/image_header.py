"""Width and height of an encoded image from its header, and whether its end is there.

A file of 875 KB can decode to 2.7 GB, so the number of pixels is known before anything is decoded. Sources: the
PNG, JPEG (ITU T.81), BMP and WebP container specifications.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mli.errors import ImageRefused

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_STANDALONE = frozenset(range(0xD0, 0xD8)) | {0x01}
# Between segments, decoders skip a stuffed zero and look on where we would jump; the others end the search.
_NO_SEGMENT = frozenset({0x00, 0xD8, 0xD9, 0xDA})

_OTHER_KINDS = (
    (0, b"GIF8", "a GIF"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypheic", "a HEIC photo"),
    (4, b"ftypmif1", "a HEIC photo"),
    (4, b"ftyp", "a video or HEIC photo"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"%PDF", "a PDF"),
    (0, b"<", "text in HTML, XML or SVG"),
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of the file"),
)

MAX_PARTS = 200_000
"""Chunks or segments before the search is given up; far more than a file of ours has, and done in a moment."""
MAX_SCANS = 100
"""A progressive JPEG goes over all its pixels once a scan; real ones have about ten."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an encoded image promises: its kind and its size in pixels."""

    kind: str
    width: int
    height: int


def read_header(data: bytes, name: str) -> ImageHeader:
    """Read the header of a PNG, JPEG, BMP or WebP file.

    Raises:
        ImageRefused: another kind of file, a damaged header, or a file that ends early.
    """
    for starts, kind, size in (
        (data.startswith(_PNG), "PNG", _png_size),
        (data.startswith(_JPEG), "JPEG", _jpeg_size),
        (data.startswith(b"BM"), "BMP", _bmp_size),
        (data.startswith(b"RIFF") and data[8:12] == b"WEBP", "WebP", _webp_size),
    ):
        if starts:
            try:
                width, height = size(data)
            except (struct.error, IndexError) as error:
                raise ImageRefused(f"{name}: the {kind} header is damaged") from error
            except EOFError as error:
                raise ImageRefused(f"{name}: the {kind} file ends early: {error}") from error
            if width < 1 or height < 1:
                raise ImageRefused(f"{name}: the {kind} header says {width} x {height} pixels")
            return ImageHeader(kind, width, height)
    raise ImageRefused(
        f"{name}: not an image that mli reads",
        expected="png, jpg, jpeg, bmp or webp",
        got=_kind_of(data),
    )


def _kind_of(data: bytes) -> str:
    if not data:
        return "an empty file"
    for at, beginning, kind in _OTHER_KINDS:
        if data.startswith(beginning, at):
            return kind
    return f"first bytes {data[:8].hex(' ')}"


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise IndexError("no IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    at = len(_PNG)
    for _ in range(MAX_PARTS):
        if at + 12 > len(data):
            raise EOFError("its IEND chunk is missing")
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            return width, height
    raise IndexError("too many chunks")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(MAX_PARTS):
        if data[at] != 0xFF:
            raise IndexError("no marker")
        marker = data[at + 1]
        if marker in _NO_SEGMENT:
            raise IndexError("no frame header")
        if marker == 0xFF:
            at += 1
            continue
        if marker in _STANDALONE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            _check_scans(data, at + 2 + length, progressive=marker in _PROGRESSIVE)
            return width, height
        at += 2 + length
    raise IndexError("too many segments")


def _check_scans(data: bytes, at: int, *, progressive: bool) -> None:
    """The end marker is there, and there are no more scans than a real image has."""
    end = data.rfind(b"\xff\xd9", at)  # from the back: it is the last thing of most files
    if end < 0:
        raise EOFError("its end marker is missing")
    if data.find(b"\xff\xda", at, end) < 0:
        raise IndexError("no scan")
    if progressive and (scans := data.count(b"\xff\xda", at, end)) > MAX_SCANS:
        raise IndexError(f"{scans} scans")


def _bmp_size(data: bytes) -> tuple[int, int]:
    offset, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    elif header < 36:
        raise IndexError("an unknown header")
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    if compression in (0, 3) and width > 0 and len(data) < offset + (width * bits + 31) // 32 * 4 * height:
        raise EOFError("rows of pixels are missing")
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    (promised,) = struct.unpack_from("<I", data, 4)
    if len(data) < promised + 8:
        raise EOFError(f"{promised + 8} bytes promised, {len(data)} there")
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    else:
        raise IndexError("no VP8 chunk")
    return width, height
