"""A revision is written into a file, and nothing else of it changes."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mli.core.sending.revision_text import with_revision
from mli.errors import UsageError

BLOCK = """\
# the line's camera
models:
  main: {uri: s3://bucket/model.zip}  # revision: 3
pipelines:
  revision: {source: demo, model: main}
"""


def test_a_file_without_one_gets_it_as_its_first_key() -> None:
    assert with_revision(BLOCK, 7) == BLOCK.replace("models:", "revision: 7\nmodels:", 1)


def test_a_file_with_one_keeps_its_place_and_its_comment() -> None:
    text = BLOCK + "revision: 6 # counted by hand\n"
    assert with_revision(text, 7) == BLOCK + "revision: 7 # counted by hand\n"
    assert with_revision(text, 6) is text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"models": {}}', '{"revision": 7, "models": {}}'),
        ('{"revision": 6, "models": {}}', '{"revision": 7, "models": {}}'),
        ('{\n  "models": {},\n  "revision": 6\n}\n', '{\n  "models": {},\n  "revision": 7\n}\n'),
        ("---\nmodels: {}\n", "---\nrevision: 7\nmodels: {}\n"),
        ("--- # start\n{models: {}}\n", '--- # start\n{"revision": 7, models: {}}\n'),
        ("models: {}\r\n", "revision: 7\nmodels: {}\r\n"),
        ("'revision': 6\nmodels: {}\n", "'revision': 7\nmodels: {}\n"),
        ("revision: '6'\nmodels: {}\n", "revision: 7\nmodels: {}\n"),
    ],
)
def test_other_ways_to_write_a_file(text: str, wanted: str) -> None:
    assert with_revision(text, 7) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffmodels: {}\n",
        "revision:\n  6\nmodels: {}\n",
        "? revision\n: 6\nmodels: {}\n",
        "# {\nmodels: {}\n",
        "  models: {}\n",
    ],
)
def test_a_form_that_is_not_understood_keeps_its_meaning(text: str) -> None:
    assert yaml.safe_load(with_revision(text, 7)) == {"models": {}, "revision": 7}


def test_no_settings_are_refused() -> None:
    with pytest.raises(UsageError):
        with_revision("- 1\n", 7)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=10) | st.just("revision: 3"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(
    value=st.dictionaries(st.sampled_from(["models", "pipelines", "revision", "a b"]), VALUES, min_size=1),
    flow=st.sampled_from([True, False, None]),
)
def test_any_file_keeps_its_other_values(value: dict[str, object], flow: bool | None) -> None:
    for text in (yaml.safe_dump(value, default_flow_style=flow), json.dumps(value), json.dumps(value, indent=2)):
        if yaml.safe_load(text) == value:  # YAML reads some of JSON's texts in its own way
            assert yaml.safe_load(with_revision(text, 7)) == value | {"revision": 7}
