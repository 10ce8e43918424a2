"""Encoded images: sound ones in each format, and the parts that hostile ones are made of."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
FORMATS = ("png", "jpg", "jpeg", "bmp", "webp")

Pixels = NDArray[np.uint8]


def pixels(width: int = 48, height: int = 32, seed: int = 0) -> Pixels:
    """A smooth picture (so that JPEG keeps it) with another colour in each corner, BGR."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    picture: Pixels = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return picture


def encode(image: NDArray[Any], kind: str = "png", options: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(f".{kind.lower()}", image, list(options))
    assert done
    return data.tobytes()


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk."""
    chunks, at = [], len(PNG_SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def join_png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def png_promising(width: int, height: int) -> bytes:
    """A small PNG whose header promises other pixels; its checksums are right."""
    chunks = png_chunks(encode(pixels()))
    kind, header = chunks[0]
    return join_png([(kind, struct.pack(">II", width, height) + header[8:]), *chunks[1:]])


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def start_of_frame(data: bytes) -> int:
    """Where the frame header of a JPEG that OpenCV wrote begins."""
    return next(data.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in data)


def with_exif(data: bytes, orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """A JPEG with an EXIF segment, big-endian: an orientation, and a thumbnail of its own."""
    entries = struct.pack(">HHHIHH", 1, 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\x00\x2a" + struct.pack(">I", 8) + entries
    first = 8 + len(entries) + 4
    second = struct.pack(">HHHIIHHII", 2, 0x0201, 4, 1, first + 30, 0x0202, 4, 1, len(thumbnail))
    tiff += struct.pack(">I", first if thumbnail else 0)
    if thumbnail:
        tiff += second + struct.pack(">I", 0) + thumbnail
    return data[:2] + jpeg_segment(0xE1, b"Exif\x00\x00" + tiff) + data[2:]


def webp_riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def animated(kind: str, frames: Sequence[Pixels]) -> bytes:
    """An animated PNG or WebP."""
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA) for frame in frames]
    animation.durations = [100] * len(frames)
    done, data = cv2.imencodeanimation(f".{kind}", animation)
    assert done
    return data.tobytes()
