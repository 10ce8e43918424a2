"""``mli migrate`` as a process: exit codes, one JSON object, and nothing of AWS's library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.greengrass_v1 import (
    CERTIFICATE_ID,
    CORE,
    MODEL,
    THING,
    device_folder,
    export,
    group_json,
    template,
)
from tests.fixtures.mli_process import environment, run_mli

GIVEN = ("--parameter", f"ModelS3Uri={MODEL}", "--parameter", f"CertIdParam={CERTIFICATE_ID}")
WITHOUT_AWS = """
import sys
for name in ("boto3", "botocore", "awscli", "awscrt", "awsiot"):
    sys.modules[name] = None
from mli.cli.main import main
main()
"""


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_template_becomes_files_and_one_json_object(tmp_path: Path) -> None:
    done = run_mli("migrate", template(tmp_path), *GIVEN, "-o", "out", "--json", state=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["thing"], told["core_name"], told["complete"]) == (THING, CORE, True)
    assert told["files"] == ["deployment.yaml", "parameters.json", "report.md"]
    assert list(told["backup"]) == ["accelerator.yaml"]
    assert sum(told["counts"].values()) == len(told["findings"])
    assert files_in(tmp_path / "out") == [
        "backup/SHA256SUMS",
        "backup/accelerator.yaml",
        "deployment.yaml",
        "parameters.json",
        "report.md",
    ]
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "out" / "backup", check=True)
    assert sums.returncode == 0
    checked = run_mli("config", tmp_path / "out" / "deployment.yaml", state=tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_what_is_missing_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    done = run_mli("migrate", template(tmp_path), "-o", "out", state=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert "--parameter ModelS3Uri=…" in done.stderr
    assert "code of LookAtBelt" in done.stdout
    assert not (tmp_path / "out").exists()
    done = run_mli("migrate", template(tmp_path), "--json", state=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["complete"] is False


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = run_mli("migrate", export(tmp_path), "--dry-run", "-o", "out", state=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "would write" in done.stdout
    assert not (tmp_path / "out").exists()


def test_other_content_is_replaced_with_force_alone(tmp_path: Path) -> None:
    source = export(tmp_path)
    archive = tmp_path / "model.zip"
    archive.write_bytes(b"an archive")
    assert run_mli("migrate", source, "-o", "out", state=tmp_path, cwd=tmp_path).returncode == 0
    again = ("migrate", source, "-o", "out", "--model", archive)
    refused = run_mli(*again, state=tmp_path, cwd=tmp_path)
    assert refused.returncode == 2
    assert "deployment.yaml" in refused.stderr
    assert run_mli(*again, "--force", state=tmp_path, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("wrong", ["absent.yaml", "--parameter", "recipe.yaml", "empty"])
def test_a_persons_mistake_is_told_without_a_traceback(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "recipe.yaml").write_text("RecipeFormatVersion: '2020-01-25'\n")
    (tmp_path / "empty").mkdir()
    words = [template(tmp_path), wrong, "x"] if wrong.startswith("-") else [wrong]
    done = run_mli("migrate", *words, state=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("mli: ")


def test_it_needs_neither_aws_library_nor_account(tmp_path: Path) -> None:
    root = device_folder(tmp_path, group=group_json())
    variables = {key: value for key, value in environment(tmp_path).items() if not key.startswith("AWS_")}
    command = [sys.executable, "-c", WITHOUT_AWS, "migrate", str(root), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert THING in done.stdout
