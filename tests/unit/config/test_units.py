"""Durations, sizes and pixels as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mli.config.units import parse_duration, parse_pixels, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5), ("200ms", 0.2), ("1.5m", 90), ("1min", 60), ("2h", 7200), ("7d", 604_800), (" 5 s ", 5), ("5S", 5),
        ("5", 5), (5, 5), (0.25, 0.25), (0, 0), ("0", 0), ("0s", 0),
    ],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "5x",
        "-5s",
        "5 5s",
        "5s s",
        "1e3s",
        "five",
        "5,5s",
        "٥s",
        None,
        True,
        [],
        -1,
        float("nan"),
        float("inf"),
        "9999999d",
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 5s, 200ms") as refusal:
        parse_duration(value)
    assert "found" in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", 500 * 1024**2), ("64KB", 65_536), ("64kB", 65_536), ("64KiB", 65_536), ("2GB", 2 * 1024**3),
        ("1.5GB", 1_610_612_736), ("10 mb", 10 * 1024**2), ("7B", 7), ("7", 7), (7, 7),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "MB", "5TBB", "-5MB", "0", 0, -1, "0.1B", None, True, 1.5, "5 5MB", "1e9"])
def test_what_is_no_size_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 500MB"):
        parse_size(value)


def test_pixels() -> None:
    assert parse_pixels("224x160") == (224, 160)
    assert parse_pixels(" 224 X 160 ") == (224, 160)
    assert parse_pixels("224×160") == (224, 160)


@pytest.mark.parametrize(
    "value", ["224", "224x", "x224", "0x5", "05x5", "224x224x3", 224, None, [224, 224], "100000x1"]
)
def test_what_is_no_size_in_pixels_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected width x height such as 224x224"):
        parse_pixels(value)


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_pixels):
        try:
            parse(text)
        except ValueError as refusal:
            if "expected" not in str(refusal):
                raise
