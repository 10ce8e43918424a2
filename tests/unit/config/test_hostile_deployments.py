"""A deployment may be any bytes that a broker passes on: each is taken, or refused in words and in bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.config.deployments import device_of, parse

from mli.config.deployment import parse_deployment, read_deployment
from mli.errors import UsageError

HOSTILE = {
    "empty": b"",
    "nul": b"\x00",
    "not text": b"\xff\xfe\x00",
    "list": b"[]",
    "number": b"7",
    "null": b"null",
    "half json": b'{"revision": 1',
    "two jsons": b"{} {}",
    "twice": b'{"model": "a", "model": "b", "source": "c"}',
    "twice in yaml": b"model: a\nmodel: b\n",
    "nan": b'{"min_confidence": NaN, "model": "a", "source": "b"}',
    "too large": b"#" * (1024 * 1024 + 1),
    "deep json": b'{"a":' * 100_000,
    "deep json list": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    "deep yaml": b"a: " + b"[" * 100_000,
    "deep dashes": b"- " * 100_000,
    "bomb": b"a: &a [x]\nb: &b [*a, *a]\n",
    "base 60": b"revision: 1" + b":1" * 400_000,
    "long hex": b"top: 0x" + b"f" * 500_000,
    "long float": b"top: 1." + b"0" * 500_000,
    "long json number": b'{"top": ' + b"1" * 4000 + b"}",
    "surrogate": b'{"model": "\\ud800", "source": "\\ud800", "topic": "\\ud800"}',
    "nul in path": b'{"model": "a\\u0000b", "source": "a\\u0000b"}',
    "tag": b"model: !!python/name:os.system x\nsource: a\n",
    "binary": b"model: !!binary aGk=\nsource: !!set {a}\n",
    "merge": b"<<: {model: a}\nsource: b\n",
    "keys": b"? [a, b]\n: 1\n",
    "many keys": b"".join(b"k%d: 1\n" % number for number in range(20_000)),
    "many pems": b'model: a\nsource: b\ntrust: ["' + b"-----BEGIN PUBLIC KEY-----" * 30_000 + b'"]\n',
    "blank pem": b'{"model": "a", "source": "b", "trust": "-----BEGIN PUBLIC KEY-----' + b" " * 900_000 + b'"}',
    "many pipelines": b"models: {m: 's3://bucket/x'}\npipelines:\n"
    + b"".join(b"  p%d: {source: images}\n" % number for number in range(1000)),
    "many rules": b"model: a\nsource: b\nrules:\n"
    + b"- {name: r, when: {label: x}, then: {publish: a}}\n" * 1000,
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_are_refused_in_words(tmp_path: Path, kind: str) -> None:
    """Also in time: what is quadratic in any of these runs into the limit of the tests."""
    with pytest.raises(UsageError) as refusal:
        parse(tmp_path, HOSTILE[kind])
    assert len(str(refusal.value)) < 20_000
    assert_told(refusal.value)


def assert_told(error: UsageError) -> None:
    """The error names the file."""
    assert str(error).startswith("d: ") or str(error.where).partition(":")[0] == "d"


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_a_deployment_or_an_error(data: bytes) -> None:
    try:
        read_deployment(data, "d")
    except UsageError as error:
        assert_told(error)


_WORDS = ["source", "uri", "model", "kind", "when", "then", "publish", "label", "name", "region", "sha256", "main"]
_KEYS = [
    "revision",
    "thing",
    "trust",
    "model",
    "models",
    "pipelines",
    "source",
    "rules",
    "publish",
    "limits",
    "topic",
]
_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _PLAIN | st.sampled_from(["images", "s3://bucket/x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(_WORDS), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=5))
def test_any_json_is_a_deployment_or_an_error(value: dict[str, Any]) -> None:
    device = device_of(Path("/device"))
    try:
        parse_deployment(
            json.dumps(value).encode(), device, origin="remote", folder=Path("/"), name="d", check_files=False
        )
    except UsageError as error:
        assert_told(error)
