"""Images on disk as a camera: which come, in which order, what is refused, and where a sweep goes on."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.pipeline.encoded_images import FORMATS, encode, pixels, png_promising

from mli.config.settings import SourceSettings
from mli.errors import ImageRefused, RefusedError, RetryError
from mli.pipeline.sources import images
from mli.pipeline.sources.image_files import list_images, natural_key, others_in, plain_text
from mli.pipeline.sources.images import ImagesSource
from mli.pipeline.sources.source import Capture, Reading

PNG = encode(pixels())


def put(folder: Path, *names: str, data: bytes = PNG) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def once(uri: Path | str, position: str | None = None) -> ImagesSource:
    return ImagesSource(SourceSettings("images", str(uri), once=True), position)


def loop(uri: Path | str, position: str | None = None) -> ImagesSource:
    return ImagesSource(SourceSettings("images", str(uri)), position)


def take(source: ImagesSource) -> Capture:
    capture = source.read()
    assert isinstance(capture, Capture), capture
    return capture


def names(source: ImagesSource) -> list[str]:
    """The rest of a sweep."""
    found = []
    while isinstance(capture := source.read(), Capture):
        found.append(capture.image_name)
    assert capture is Reading.END
    return found


@pytest.fixture
def relist_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is listed at each read, so that a test need not wait a second for it."""
    monkeypatch.setattr(images, "RELIST_S", 0.0)
    monkeypatch.setattr(images, "RELIST_SHARE", float("inf"))


# --- which images, and their order -----------------------------------------------------------------------------


def test_numbers_are_sorted_by_value_and_case_does_not_matter(tmp_path: Path) -> None:
    put(tmp_path, "image10.png", "Image2.png", "image1.png", "b.png", "A.png", "image2b.png", "image002.png")
    wanted = ["A.png", "b.png", "image1.png", "image002.png", "Image2.png", "image2b.png", "image10.png"]
    assert names(once(tmp_path)) == wanted


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), max_size=30))
def test_natural_order_is_total_over_any_names(words: list[str]) -> None:
    keys = sorted(natural_key(word) for word in words)
    assert len(set(keys)) == len(set(words))
    assert [key[1] for key in keys] == sorted(words, key=natural_key)


def test_names_that_differ_only_by_case_both_come_also_after_an_interruption(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "A.png")
    source = once(tmp_path)
    first = take(source)
    assert names(once(tmp_path, first.position)) == names(source)
    assert len(names(once(tmp_path))) == 2


def test_folder_takes_every_format_upper_case_too_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, *[f"a.{kind}" for kind in FORMATS], *[f"b.{kind.upper()}" for kind in FORMATS])
    put(tmp_path, "readme.txt", "c.gif", "png", ".hidden.png", "._a.jpg", "sub/inner.png")
    assert sorted(names(once(tmp_path))) == sorted(
        [*[f"a.{kind}" for kind in FORMATS], *[f"b.{kind.upper()}" for kind in FORMATS]]
    )


def test_glob_takes_what_it_says(tmp_path: Path) -> None:
    put(tmp_path, "1/left/a2.png", "1/left/a10.png", "1/right/b.png", "2/left/c.jpg", "d.png", "1/left/.hidden.png")
    assert names(once(tmp_path / "*/left/*.png")) == ["a2.png", "a10.png"]
    assert names(once(tmp_path / "**/left/*.*")) == ["a2.png", "a10.png", "c.jpg"]
    assert names(once(tmp_path / "**")) == ["a2.png", "a10.png", "b.png", "c.jpg", "d.png"]
    assert names(once(tmp_path / "[cd].png")) == ["d.png"]


def test_a_name_with_wildcards_that_exists_is_itself(tmp_path: Path) -> None:
    put(tmp_path, "shot[1].png", "shot1.png")
    assert names(once(tmp_path / "shot[1].png")) == ["shot[1].png"]


def test_single_file_is_taken_whatever_its_name_and_hidden_too(tmp_path: Path) -> None:
    put(tmp_path, ".frame")
    capture = take(once(tmp_path / ".frame"))
    assert capture.image_name == ".frame"
    np.testing.assert_array_equal(capture.decode(), pixels())


def test_capture_tells_when_and_where_it_was_taken(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    source = ImagesSource(SourceSettings("images", str(tmp_path)), None, clock=lambda: 1234.5)
    capture = take(source)
    assert (capture.captured_at, capture.position, capture.truth) == (1234.5, str(tmp_path / "a.png"), None)


# --- once --------------------------------------------------------------------------------------------------------


def test_once_ends_and_stays_ended(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    source = once(tmp_path)
    assert source.finite
    assert names(source) == ["1.png", "2.png"]
    assert source.read() is Reading.END


def test_once_goes_on_after_a_position(tmp_path: Path) -> None:
    put(tmp_path, *[f"{number}.png" for number in range(1, 12)])
    assert names(once(tmp_path, str(tmp_path / "9.png"))) == ["10.png", "11.png"]


def test_once_goes_on_after_an_image_that_was_deleted_meanwhile(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "10.png")
    position = str(tmp_path / "2.png")
    (tmp_path / "2.png").unlink()
    assert names(once(tmp_path, position)) == ["10.png"]


def test_once_after_the_last_image_ends_at_once(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    assert once(tmp_path, str(tmp_path / "2.png")).read() is Reading.END


@pytest.mark.usefixtures("relist_always")
def test_once_takes_images_that_come_behind_the_last_one(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "5.png")
    source = once(tmp_path)
    assert take(source).image_name == "1.png"
    put(tmp_path, "3.png")
    assert names(source) == ["3.png", "5.png"]


def test_once_without_any_image_says_what_it_looked_for(tmp_path: Path) -> None:
    put(tmp_path, "notes.txt")
    with pytest.raises(RefusedError) as refusal:
        once(tmp_path)
    assert str(tmp_path) in str(refusal.value)
    assert ".webp" in str(refusal.value)
    assert refusal.value.got == ".txt (1)"


def test_an_empty_folder_and_a_glob_without_matches_hold_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, ".hidden.txt")
    for uri in (tmp_path, tmp_path / "*.jpg"):
        with pytest.raises(RefusedError) as refusal:
            once(uri)
        assert refusal.value.got is None
        assert "put them there" in (refusal.value.remedy or "")


def test_images_that_lie_one_folder_deeper_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    put(tmp_path, "README", "one.HEIC", "two.heic", "cats/owl.png")
    with pytest.raises(RefusedError) as refusal:
        once(tmp_path)
    assert set((refusal.value.got or "").split(", ")) == {
        ".heic (2)",
        "folders (1)",
        "files without an extension (1)",
    }
    assert f"'{tmp_path}/**/*.jpg'" in (refusal.value.remedy or "")


def test_nothing_is_told_of_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    put(tmp_path, "secret.key")
    assert others_in(str(tmp_path)) == ".key (1)"
    assert others_in(str(tmp_path), (str(tmp_path / "images"),)) is None


@pytest.mark.usefixtures("relist_always")
def test_once_in_a_folder_that_vanishes_is_no_end(tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    put(folder, "1.png", "2.png")
    source = once(folder)
    position = take(source).position
    shutil.rmtree(folder)
    with pytest.raises(RetryError) as retry:
        source.read()
    assert str(folder) in str(retry.value)
    assert "No such file" in str(retry.value)
    put(folder, "1.png", "2.png")
    assert names(once(folder, position)) == ["2.png"]


@pytest.mark.usefixtures("relist_always")
def test_a_single_file_that_is_taken_away_when_done_ends(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    source = once(tmp_path / "a.png")
    position = take(source).position
    (tmp_path / "a.png").unlink()
    assert source.read() is Reading.END
    assert once(tmp_path / "a.png", position).read() is Reading.END


def test_once_tells_a_refused_image_and_goes_on(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "3.png")
    put(tmp_path, "2.png", data=b"no image")
    source = once(tmp_path)
    take(source)
    with pytest.raises(ImageRefused, match=r"2\.png: not an image"):
        take(source).decode()
    assert names(source) == ["3.png"]


# --- loop --------------------------------------------------------------------------------------------------------


def test_loop_begins_anew(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    source = loop(tmp_path)
    assert not source.finite
    assert [take(source).image_name for _ in range(5)] == ["1.png", "2.png", "1.png", "2.png", "1.png"]


@pytest.mark.usefixtures("relist_always")
def test_loop_picks_up_new_files_and_forgets_deleted_ones(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "3.png")
    source = loop(tmp_path)
    assert take(source).image_name == "1.png"
    put(tmp_path, "0.png", "2.png")
    (tmp_path / "3.png").unlink()
    assert [take(source).image_name for _ in range(5)] == ["0.png", "2.png", "0.png", "1.png", "2.png"]


@pytest.mark.usefixtures("relist_always")
def test_loop_takes_a_new_file_of_an_old_name_as_new(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    source = loop(tmp_path)
    take(source)
    (tmp_path / "1.png").unlink()
    assert take(source).image_name == "2.png"
    put(tmp_path, "1.png")
    assert [take(source).image_name for _ in range(2)] == ["1.png", "3.png"]


def test_loop_goes_on_after_a_position_and_then_has_them_all(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    source = loop(tmp_path, str(tmp_path / "2.png"))
    assert [take(source).image_name for _ in range(4)] == ["3.png", "1.png", "2.png", "3.png"]


def test_loop_waits_for_a_first_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "notes.txt")
    with caplog.at_level(logging.WARNING):
        source = loop(tmp_path)
    assert "no images yet" in caplog.text
    assert "found: .txt (1)" in caplog.text
    assert source.read() is Reading.NOTHING_YET
    put(tmp_path, "1.png")
    assert take(source).image_name == "1.png"


def test_loop_waits_for_a_folder_that_vanished_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "usb"
    put(folder, "1.png")
    source = loop(folder)
    take(source)
    shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING):
        assert [source.read() for _ in range(3)] == [Reading.NOTHING_YET] * 3
    assert caplog.text.count("cannot be listed") == 1
    put(folder, "1.png")
    assert take(source).image_name == "1.png"


def test_loop_tries_a_refused_image_again_when_it_changed(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    put(tmp_path, "2.png", data=PNG[:-20])
    source = loop(tmp_path)
    take(source).decode()
    broken = take(source)
    with pytest.raises(ImageRefused):
        broken.decode()
    assert [take(source).image_name for _ in range(3)] == ["1.png"] * 3
    put(tmp_path, "2.png")
    assert [take(source).image_name for _ in range(2)] == ["2.png", "1.png"]


def test_loop_of_refused_images_only_has_nothing(tmp_path: Path) -> None:
    put(tmp_path, "1.png", data=b"")
    source = loop(tmp_path)
    with pytest.raises(ImageRefused):
        take(source).decode()
    assert source.read() is Reading.NOTHING_YET


# --- hostile files -------------------------------------------------------------------------------------------------


def refused(path: Path, settings: SourceSettings | None = None) -> str:
    """What reading the folder with this one file says."""
    source = ImagesSource(settings or SourceSettings("images", str(path.parent), once=True), None)
    capture = take(source)
    with pytest.raises(ImageRefused) as refusal:
        capture.decode()
    assert capture.position == plain_text(str(path))
    return str(refusal.value)


def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    assert refused(tmp_path / "x.png") == "x.png: not a regular file"


def test_a_folder_named_like_an_image_is_refused_and_no_descriptor_leaks(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    before = len(list(Path("/dev/fd").iterdir()))
    assert refused(tmp_path / "x.jpg") == "x.jpg: not a regular file"
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("x.png")
        assert "x.png: cannot be read" in refused(tmp_path / "x.png")


def test_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("/dev/zero")
    assert refused(tmp_path / "x.png") == "x.png: not a regular file"


def test_a_dangling_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("nowhere.png")
    assert "x.png: cannot be read: No such file" in refused(tmp_path / "x.png")


def test_a_symlink_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("x.png")
    assert "x.png: cannot be read" in refused(tmp_path / "x.png")


def test_a_file_that_is_deleted_before_it_is_read_is_refused_and_the_sweep_goes_on(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    source = once(tmp_path)
    first = take(source)
    (tmp_path / "1.png").unlink()
    with pytest.raises(ImageRefused, match=r"1\.png: cannot be read: No such file"):
        first.decode()
    assert names(source) == ["2.png", "3.png"]


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "x.png")
    (tmp_path / "x.png").chmod(0)
    capture = take(once(tmp_path))
    user = os.geteuid()
    if user == 0:  # root may read everything
        os.seteuid(65_534)
    try:
        with pytest.raises(ImageRefused, match=r"x\.png: cannot be read: Permission denied"):
            capture.decode()
    finally:
        os.seteuid(user)


def test_a_file_of_more_bytes_than_are_read_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(images.MAX_FILE_BYTES + 1)  # sparse: no disk is used
    assert "268,435,457 bytes" in refused(tmp_path / "x.png")


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "x.png", data=png_promising(50_000, 50_000))
    assert "2,500,000,000" in refused(tmp_path / "x.png")


def test_the_limit_is_the_sources(tmp_path: Path) -> None:
    put(tmp_path, "x.png")
    settings = SourceSettings("images", str(tmp_path), once=True, max_pixels=48 * 32 - 1)
    assert "at most 1,535" in refused(tmp_path / "x.png", settings)
    capture = take(ImagesSource(replace(settings, max_pixels=48 * 32), None))
    assert capture.decode().shape == (32, 48, 3)


STRANGE = b"a\xff\x1b[31m\n.png"


def test_names_that_are_no_text_become_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 could not be stored, and control characters would reach somebody's terminal."""
    Path(os.fsdecode(bytes(tmp_path) + b"/" + STRANGE)).write_bytes(b"no image")
    put(tmp_path, "b.png")
    source = once(tmp_path)
    capture = take(source)
    assert capture.image_name == "a\\xff\\x1b[31m\\x0a.png"
    capture.position.encode()
    with pytest.raises(ImageRefused, match="not an image") as refusal:
        capture.decode()
    assert "\x1b" not in str(refusal.value)
    assert names(once(tmp_path, capture.position)) == ["b.png"]


def test_letters_of_every_language_stay() -> None:
    assert plain_text("Bild ü 写真 Screenshot at 9.41\u202fAM.png") == "Bild ü 写真 Screenshot at 9.41\u202fAM.png"


def test_listing_something_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    for uri in ("nowhere", "nowhere/*.png", "a.png/*.png"):
        with pytest.raises(OSError, match="No such file"):
            list_images(str(tmp_path / uri))
    assert list_images(str(tmp_path / "*.jpg")) == []


# --- bounded: what a deployment from the network may read ----------------------------------------------------


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    """A folder that may be read, beside one that may not."""
    put(tmp_path / "images", "1.png", "left/2.png", "left/deep/3.png", ".hidden/x.png")
    put(tmp_path / "private", "secret.png", "deep/secret.png")
    return tmp_path / "images"


def bounded(uri: Path | str, allowed: Path, *, sweep: bool = True) -> ImagesSource:
    return ImagesSource(SourceSettings("images", str(uri), once=sweep, below=(str(allowed),)), None)


GLOBS = ["*.png", "**/*.png", "*/*.png", "**", "**/deep/*.png", "left/*.png", "le?t/**/*.png", "**/**/3.png", ".h*/*"]


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_bounded_glob_finds_what_any_glob_finds(allowed: Path, pattern: str) -> None:
    found = list_images(str(allowed / pattern), (str(allowed),))
    assert found
    assert found == list_images(str(allowed / pattern))


@pytest.mark.parametrize("pattern", ["**/*.png", "*/*.png", "*/*/*.png", "*/out/*.png", "o[u]t/**/*.png", "**"])
@pytest.mark.parametrize("target", ["../private", "/"])
def test_a_bounded_glob_lists_nothing_that_a_link_leads_out_to(allowed: Path, pattern: str, target: str) -> None:
    (allowed / "out").symlink_to(target)
    (allowed / "left" / "out").symlink_to(Path(allowed, target).resolve())
    found = list_images(str(allowed / pattern), (str(allowed),))
    assert not [path for path in found if "secret" in path or not Path(path).resolve().is_relative_to(allowed)]
    assert ("left" in str(found)) == (pattern in ("**/*.png", "*/*.png", "*/*/*.png", "**"))


def test_what_is_left_out_is_told_once(allowed: Path, caplog: pytest.LogCaptureFixture) -> None:
    (allowed / "out").symlink_to("../private")
    for _ in range(3):
        list_images(str(allowed / "*/*.png"), (str(allowed),))
    (record,) = caplog.records
    assert f"{allowed}/out is left out: a link leads out of the folders" in record.getMessage()


def test_links_that_stay_inside_are_followed_by_a_bounded_star(allowed: Path) -> None:
    (allowed / "newest").symlink_to("left")
    (allowed / "loop").symlink_to(".")
    found = list_images(str(allowed / "*/*.png"), (str(allowed),))
    assert [path.removeprefix(f"{allowed}/") for path in found] == ["left/2.png", "loop/1.png", "newest/2.png"]
    assert len(list_images(str(allowed / "**/*.png"), (str(allowed),))) == 3  # the two could go on for ever


@pytest.mark.parametrize("uri", ["", "*.png", "**/*.png", "9.png"])
def test_a_link_to_an_image_outside_is_refused_and_named(allowed: Path, uri: str) -> None:
    (allowed / "9.png").symlink_to("../private/secret.png")
    source = bounded(allowed / uri, allowed)
    captures = [capture for capture in iter(source.read, Reading.END) if isinstance(capture, Capture)]
    (linked,) = [capture for capture in captures if capture.image_name == "9.png"]
    with pytest.raises(ImageRefused, match=r"9\.png: cannot be read: a link leads out of .*`allow\.paths`"):
        linked.decode()
    for capture in captures:
        if capture is not linked:
            assert capture.decode().shape


def test_a_link_inside_leads_to_its_image(allowed: Path) -> None:
    (allowed / "9.png").symlink_to("left/2.png")
    assert take(bounded(allowed / "9.png", allowed)).decode().shape


@pytest.mark.usefixtures("relist_always")
@pytest.mark.parametrize("uri", ["left", "left/*.png", "left/2.png"])
def test_a_folder_that_becomes_a_link_shows_nothing_more(
    allowed: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    (allowed.parent / "private" / "2.png").write_bytes(PNG)
    source = bounded(allowed / uri, allowed, sweep=False)
    listed = take(source)
    shutil.rmtree(allowed / "left")
    (allowed / "left").symlink_to("../private")
    with pytest.raises(ImageRefused, match="a link leads out of"):
        listed.decode()
    if uri != "left/2.png":
        assert source.read() is Reading.NOTHING_YET
        assert "cannot be listed: a link leads out of" in caplog.text


@pytest.mark.parametrize("swapped", ["left", "left/2.png"])
def test_a_link_that_comes_after_the_look_leads_nowhere(
    allowed: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (allowed.parent / "private" / "2.png").write_bytes(PNG)
    capture = take(bounded(allowed / "left" / "2.png", allowed))
    look = os.path.realpath

    def look_and_swap(path: str) -> str:
        found = look(path)
        (allowed / swapped).rename(allowed / "gone")
        (allowed / swapped).symlink_to(allowed.parent / "private" / swapped.removeprefix("left").removeprefix("/"))
        return found

    monkeypatch.setattr(os.path, "realpath", look_and_swap)
    with pytest.raises(ImageRefused, match=r"2\.png: cannot be read: (Not a directory|Too many levels)"):
        capture.decode()
