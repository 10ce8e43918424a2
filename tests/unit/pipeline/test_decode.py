"""Decoding of images: sound ones of every kind, hostile ones refused by their header, never a hang."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.pipeline.encoded_images import (
    FORMATS,
    PNG_SIGNATURE,
    Pixels,
    animated,
    encode,
    join_png,
    jpeg_segment,
    pixels,
    png_chunks,
    png_promising,
    start_of_frame,
    webp_riff,
    with_exif,
)

from mli.errors import ImageRefused
from mli.pipeline.sources.image_header import MAX_PARTS, ImageHeader, read_header
from mli.pipeline.sources.images import decode

LIMIT = 1_000_000
SOUND = {kind: encode(pixels(), kind) for kind in FORMATS}


def refusal(data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode(data, "x.img", limit)
    assert str(refused.value).startswith("x.img: ")
    return str(refused.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_gives_its_pixels_and_size(kind: str) -> None:
    image = decode(SOUND[kind], "x", LIMIT)
    assert image.shape == (32, 48, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - pixels()).mean() < (0.5 if kind in ("png", "bmp") else 8)


KINDS_OF_PIXELS: dict[str, bytes] = {
    "grey png": encode(pixels()[:, :, 1]),
    "16-bit png": encode(pixels().astype(np.uint16) * 257),
    "alpha png": encode(cv2.cvtColor(pixels(), cv2.COLOR_BGR2BGRA)),
    "grey jpeg": encode(pixels()[:, :, 1], "jpg"),
    "progressive jpeg": encode(pixels(), "jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "lossless webp": encode(pixels(), "webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "alpha webp": encode(cv2.cvtColor(pixels(), cv2.COLOR_BGR2BGRA), "webp"),
    "grey bmp": encode(pixels()[:, :, 1], "bmp"),
    "alpha bmp": encode(cv2.cvtColor(pixels(), cv2.COLOR_BGR2BGRA), "bmp"),
    "animated png": animated("png", [pixels(seed=1), pixels(seed=2)]),
    "animated webp": animated("webp", [pixels(seed=1), pixels(seed=2)]),
}


@pytest.mark.parametrize("data", KINDS_OF_PIXELS.values(), ids=KINDS_OF_PIXELS.keys())
def test_each_kind_of_pixels_becomes_three_channels_of_eight_bits(data: bytes) -> None:
    image = decode(data, "x", LIMIT)
    assert image.shape == (32, 48, 3)
    assert image.dtype == np.uint8


def test_sixteen_bits_are_scaled_not_cut() -> None:
    assert np.abs(decode(KINDS_OF_PIXELS["16-bit png"], "x", LIMIT).astype(int) - pixels()).max() <= 1


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    image = decode(KINDS_OF_PIXELS[f"animated {kind}"], "x", LIMIT)
    assert np.abs(image.astype(int) - pixels(seed=1)).mean() < 8


def test_cmyk_jpeg_is_converted() -> None:
    data = cmyk_jpeg()
    assert read_header(data, "x") == ImageHeader("JPEG", 16, 8)
    assert decode(data, "x", LIMIT).shape == (8, 16, 3)


def cmyk_jpeg() -> bytes:
    """A grey 16 x 8 JPEG of which each block is told four times, once a component: Adobe's CMYK."""
    grey = encode(np.full((8, 16), 90, np.uint8), "jpg")
    at = start_of_frame(grey)
    scan = grey.index(b"\xff\xda")
    frame = jpeg_segment(
        0xC0, struct.pack(">BHHB", 8, 8, 16, 4) + b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3, 4))
    )
    adobe = jpeg_segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
    between = grey[at + 2 + struct.unpack_from(">H", grey, at + 2)[0] : scan]
    head = grey[:2] + adobe + grey[2:at] + frame + between
    (length,) = struct.unpack_from(">H", grey, scan + 2)
    entropy = grey[scan + 2 + length : -2]
    scans = b"".join(jpeg_segment(0xDA, bytes([1, number, 0, 0, 63, 0])) + entropy for number in (1, 2, 3, 4))
    return head + scans + b"\xff\xd9"


@pytest.mark.parametrize("kind", FORMATS)
def test_one_pixel_is_an_image(kind: str) -> None:
    assert decode(encode(pixels(1, 1), kind), "x", 1).shape == (1, 1, 3)


@pytest.mark.parametrize(("orientation", "turn"), [(1, None), (3, cv2.ROTATE_180), (6, cv2.ROTATE_90_CLOCKWISE)])
def test_orientation_by_exif_is_applied(orientation: int, turn: int | None) -> None:
    image = decode(with_exif(SOUND["jpg"], orientation), "x", LIMIT)
    wanted = decode(SOUND["jpg"], "x", LIMIT)
    wanted = wanted if turn is None else cv2.rotate(wanted, turn).astype(np.uint8)
    np.testing.assert_array_equal(image, wanted)


def test_a_thumbnail_in_exif_does_not_fool_the_size() -> None:
    data = with_exif(SOUND["jpg"], thumbnail=encode(pixels(8, 6), "jpg"))
    assert read_header(data, "x") == ImageHeader("JPEG", 48, 32)
    assert "too many pixels" in refusal(data, limit=48 * 32 - 1)


def test_a_cut_jpeg_with_a_whole_thumbnail_is_refused() -> None:
    data = with_exif(SOUND["jpg"], thumbnail=encode(pixels(8, 6), "jpg"))
    assert "ends early" in refusal(data[:-20])


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_bytes_after_the_end_do_not_matter(kind: str) -> None:
    image = decode(SOUND[kind] + b"\0" * 100_000, "x", LIMIT)
    np.testing.assert_array_equal(image, decode(SOUND[kind], "x", LIMIT))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.999, 0.9, 0.5, 0.2])
def test_a_truncated_file_is_refused(kind: str, part: float) -> None:
    data = SOUND[kind][: int(len(SOUND[kind]) * part)]
    text = refusal(data)
    assert "ends early" in text or "damaged" in text


def test_a_png_that_promises_2_500_million_pixels_is_refused_by_its_header() -> None:
    text = refusal(png_promising(50_000, 50_000), limit=50_000_000)
    assert "too many pixels" in text
    assert "50000 x 50000 = 2,500,000,000 by its header" in text
    assert "source.max_pixels" in text


def huge_bmp() -> bytes:
    return SOUND["bmp"][:18] + struct.pack("<ii", 60_000, -60_000) + SOUND["bmp"][26:]


def huge_webp() -> bytes:
    content = b"\0\0\0\0" + (16_000 - 1).to_bytes(3, "little") * 2
    return webp_riff(b"VP8X" + struct.pack("<I", 10) + content + SOUND["webp"][12:])


def huge_jpeg() -> bytes:
    at = start_of_frame(SOUND["jpg"])
    return SOUND["jpg"][: at + 5] + struct.pack(">HH", 65_000, 65_000) + SOUND["jpg"][at + 9 :]


@pytest.mark.parametrize("make", [huge_jpeg, huge_webp, lambda: png_promising(2**31 - 1, 2**31 - 1)])
def test_each_format_is_refused_by_its_header(make: Callable[[], bytes]) -> None:
    assert "too many pixels" in refusal(make(), limit=50_000_000)


def test_a_bmp_without_the_rows_that_it_promises_is_refused() -> None:
    assert "rows of pixels are missing" in refusal(huge_bmp())


def test_the_limit_itself_is_allowed() -> None:
    assert decode(SOUND["png"], "x", 48 * 32).shape == (32, 48, 3)
    assert "at most 1,535" in refusal(SOUND["png"], limit=48 * 32 - 1)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"hello, world", "first bytes 68 65 6c 6c 6f"),
        (b"\0", "first bytes 00"),
        (b"GIF89a" + bytes(60), "found:    a GIF"),
        (b"II*\0" + bytes(60), "a TIFF"),
        (b"MM\0*" + bytes(60), "a TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "a HEIC photo"),
        (b"\0\0\0\x18ftypavif" + bytes(60), "an AVIF image"),
        (b"\0\0\0\x18ftypmp42" + bytes(60), "a video or HEIC photo"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_other_files_are_refused_with_what_they_are(data: bytes, found: str) -> None:
    text = refusal(data)
    assert "not an image that mli reads" in text
    assert "png, jpg, jpeg, bmp or webp" in text
    assert found in text


CHUNKS = png_chunks(SOUND["png"])
SCAN = SOUND["jpg"].index(b"\xff\xda")
HOSTILE: dict[str, bytes] = {
    "jpeg: only fill bytes": b"\xff\xd8" + b"\xff" * 1000,
    "jpeg: fill bytes without end": SOUND["jpg"][:2] + b"\xff" * (MAX_PARTS + 10) + SOUND["jpg"][2:],
    "jpeg: empty segments without end": SOUND["jpg"][:2] + b"\xff\xe0\x00\x02" * (MAX_PARTS + 10) + SOUND["jpg"][2:],
    "jpeg: length zero": b"\xff\xd8\xff\xe0\x00\x00" + SOUND["jpg"][2:],
    "jpeg: only start and end": b"\xff\xd8\xff\xd9",
    "jpeg: a second start": SOUND["jpg"][:2] * 2 + SOUND["jpg"][2:],
    "jpeg: no scan": SOUND["jpg"][:SCAN] + b"\xff\xd9",
    "jpeg: a scan before the frame header": SOUND["jpg"][:2] + SOUND["jpg"][SCAN:],
    "jpeg: width zero": SOUND["jpg"].replace(struct.pack(">HH", 32, 48), struct.pack(">HH", 32, 0), 1),
    "png: header is not first": join_png([(b"tEXt", b"a\0b"), *CHUNKS]),
    "png: two headers": join_png([CHUNKS[0], (b"IHDR", struct.pack(">II", 9, 9) + CHUNKS[0][1][8:]), *CHUNKS[1:]]),
    "png: no data": join_png([CHUNKS[0], CHUNKS[-1]]),
    "png: data cut, checksum right": join_png([CHUNKS[0], (b"IDAT", CHUNKS[1][1][:20]), CHUNKS[-1]]),
    "png: wrong checksum": SOUND["png"][:60] + bytes([SOUND["png"][60] ^ 1]) + SOUND["png"][61:],
    "png: chunk of 4 GB": PNG_SIGNATURE + SOUND["png"][8:33] + b"\xff\xff\xff\xffIDAT",
    "png: empty chunks without end": join_png([CHUNKS[0], *[(b"prVt", b"")] * (MAX_PARTS + 10), *CHUNKS[1:]]),
    "png: size zero": png_promising(0, 5),
    "webp: canvas smaller than its image": webp_riff(
        b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\x02\0\0" * 2 + SOUND["webp"][12:]
    ),
    "webp: no image": webp_riff(b"ICCP\0\0\0\0"),
    "bmp: unknown header": SOUND["bmp"][:14] + struct.pack("<I", 20) + SOUND["bmp"][18:],
    "bmp: negative width": SOUND["bmp"][:18] + struct.pack("<i", -48) + SOUND["bmp"][22:],
    "bmp: no bits": SOUND["bmp"][:28] + struct.pack("<H", 0) + SOUND["bmp"][30:],
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_refused(data: bytes) -> None:
    refusal(data)


def test_a_length_that_hides_the_frame_header_does_not_hide_it() -> None:
    """Decoders skip a stuffed zero and find the real header right behind it; a parser that jumps finds another."""
    real = SOUND["jpg"][2:]
    frame = jpeg_segment(0xC0, struct.pack(">BHHB", 8, 1, 1, 1) + b"\x01\x11\x00")
    hidden = SOUND["jpg"][:2] + b"\xff\x00" + struct.pack(">H", len(real) + 2) + real + frame + SOUND["jpg"][SCAN:]
    seen = cv2.imdecode(np.frombuffer(hidden, np.uint8), cv2.IMREAD_COLOR)
    assert seen is not None
    assert seen.shape == (32, 48, 3)
    with pytest.raises(ImageRefused, match="JPEG header is damaged"):
        read_header(hidden, "x")


def test_a_progressive_jpeg_of_a_thousand_scans_is_refused() -> None:
    """Each scan of few bytes makes the decoder go over all pixels: minutes for a file of some kilobytes."""
    data = KINDS_OF_PIXELS["progressive jpeg"]
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 1000 + data[-2:]
    assert "JPEG header is damaged" in refusal(bomb)


def decoded(data: bytes) -> Pixels | None:
    """None where it is refused; any other exception is the test's failure."""
    try:
        return decode(data, "x", LIMIT)
    except ImageRefused:
        return None


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted({*FORMATS})),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12)), max_size=6),
    keep=st.floats(0, 1),
)
@example(kind="png", cuts=[], keep=1.0)
def test_damaged_images_decode_or_are_refused(kind: str, cuts: list[tuple[float, bytes]], keep: float) -> None:
    data = bytearray(SOUND[kind])
    for at, patch in cuts:
        start = int(at * len(data))
        data[start : start + len(patch)] = patch
    data = data[: int(len(data) * keep) + 1]
    image = decoded(bytes(data))
    if image is not None:
        assert image.dtype == np.uint8
        assert image.shape[0] * image.shape[1] <= LIMIT


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from([b"", PNG_SIGNATURE, b"\xff\xd8", b"BM", b"RIFF\x20\0\0\0WEBPVP8X"]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_are_read_or_refused(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(ImageRefused):
        header = read_header(start + rest, "x")
        assert header.width >= 1
        assert header.height >= 1


@settings(max_examples=50, deadline=None)
@given(kind=st.sampled_from(FORMATS), width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_header_says_what_decoding_gives(kind: str, width: int, height: int) -> None:
    data = encode(pixels(width, height), kind)
    header = read_header(data, "x")
    assert (header.width, header.height) == (width, height)
    assert decode(data, "x", width * height).shape == (height, width, 3)
