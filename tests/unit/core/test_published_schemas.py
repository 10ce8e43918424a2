"""The schemas of messages and status documents say what is really sent and published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fixtures.brokers import ROOT
from tests.fixtures.published_schemas import check_document, schema

from mli.core import supervisor
from mli.core.envelope import MAX_REVISION, seal, seal_cancel
from mli.core.sending.checked_file import check_file
from mli.core.status import (
    DeploymentState,
    DeploymentStatus,
    Health,
    MemoryState,
    ModelName,
    ModelState,
    PipelineState,
    Problem,
    Progress,
    Serving,
    SpoolState,
    Summary,
    encoded,
    offline_document,
)

DIGEST = "ab" * 32
FULL_STATUS = DeploymentStatus(
    thing="line-1",
    revision=7,
    identity=DIGEST,
    state="downloading",
    at=1_795_000_000.5,
    progress=Progress("main", 5, None),
    models={"main": ModelState(DIGEST, pinned=True)},
    serving=Serving(None, DIGEST),
    error=Problem("The store cannot be reached."),
)
PIPELINE = PipelineState(
    name="main",
    state="running",
    model=ModelName("pets", "1", DIGEST),
    backend="onnxruntime 1.32.0",
    isolation="container",
    why_not_isolated=None,
    memory=MemoryState("cgroup v2", 1, 2),
    frames=1,
    skipped=0,
    dropped=0,
    restarts=0,
    timeouts=0,
    error=None,
)
SUMMARY = Summary(
    *("line-1", "0.1.0", 1_795_000_000.5, 7, DIGEST, "healthy", (PIPELINE,), SpoolState(0, 0, 0), None, DIGEST)
)
EMPTY_SUMMARY = Summary("line-1", "0.1.0", 0.0, None, None, "idle", (), SpoolState(0, 0, 0), "no network")


def published(document: dict[str, Any]) -> dict[str, Any]:
    """As it comes from a broker."""
    read: dict[str, Any] = json.loads(encoded(document))
    return read


@pytest.mark.parametrize("status", [FULL_STATUS, DeploymentStatus("line-1", None, None, "refused", 0.0)])
def test_deployment_status(status: DeploymentStatus) -> None:
    check_document("deployment-status", published(status.document()))


@pytest.mark.parametrize(
    "summary", [SUMMARY.document(), EMPTY_SUMMARY.document(), offline_document("line-1", "0.1.0")]
)
def test_status(summary: dict[str, Any]) -> None:
    check_document("status", published(summary))


def test_messages() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    for payload in (b"a: 1", b"a: 12", b"a: 123"):
        check_document(
            "deployment-message", json.loads(seal(payload, thing="a", revision=0, expires_at=1.0, key=key))
        )
    for signer in (key, None):
        message = seal_cancel(thing="a", revision=MAX_REVISION, expires_at=1.0, key=signer)
        check_document("deployment-message", json.loads(message))


@pytest.mark.parametrize(
    ("name", "document"),
    [("deployment-status", FULL_STATUS.document()), ("status", SUMMARY.document())],
)
def test_nothing_more_and_nothing_less_fits(name: str, document: dict[str, Any]) -> None:
    for key in document:
        with pytest.raises(AssertionError):
            check_document(name, {other: value for other, value in document.items() if other != key})
    with pytest.raises(AssertionError):
        check_document(name, document | {"more": 1})


def test_every_state_is_named() -> None:
    assert schema("deployment-status")["properties"]["state"]["enum"] == list(get_args(DeploymentState))
    parts = schema("status")["$defs"]
    assert parts["online"]["properties"]["health"]["enum"] == list(get_args(Health))
    assert parts["pipeline"]["properties"]["state"]["enum"] == list(get_args(supervisor.State))
    assert schema("deployment-message")["$defs"]["revision"]["maximum"] == MAX_REVISION


PAGE = (ROOT / "docs" / "deployments.md").read_text()


def test_every_state_is_explained_in_the_pages() -> None:
    for state in get_args(DeploymentState):
        assert f"| `{state}` |" in PAGE


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_the_pages_deployments_can_be_sent(text: str, tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(text)
    found = check_file(tmp_path / "deployment.yaml", ("gg_mli_accel",))
    assert (found.trust is not None) == ("trust:" in text)
    assert (found.warnings == ()) == ("sha256:" in text)
