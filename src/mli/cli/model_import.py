"""``mli model import``: an MXNet archive becomes a native one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.model import input_text, prediction_json, preprocess_of_options
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.core.import_archive import Imported


def import_model(
    archive: Annotated[
        Path, typer.Argument(help="NAME-symbol.json, NAME-0000.params and synset.txt as .zip, .tar.gz or folder.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--output-file", help="The archive to write: X.zip or X.tar.gz.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Show the operators too; without -o nothing is written.")
    ] = False,
    epoch: Annotated[int | None, typer.Option(help="Of the parameters file [default: the highest].")] = None,
    size: Annotated[str | None, typer.Option(help="Input size, as 224x224 [default: found out].")] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels file to take instead of the archive's.")] = None,
    golden: Annotated[
        list[Path] | None, typer.Option(help="Photo that becomes a golden sample; may be said several times.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of golden confidences.")] = 0.02,
    name: Annotated[str | None, typer.Option(help="[default: the archive's name]")] = None,
    version: Annotated[str, typer.Option(help="Of the model.")] = "1",
    resize: Annotated[str | None, typer.Option(help="stretch (default), letterbox or crop.")] = None,
    color: Annotated[str | None, typer.Option(help="RGB (default), BGR or gray.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="x = (pixel - mean) * scale; one value, or one a channel: 124,117,104.")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="As --mean: 0.0078125.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an archive that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a native archive of an MXNet one. `mli run` does the same by itself; this keeps the result."""
    from mli.cli.progress import InstallProgress
    from mli.core.import_archive import ImportChoices, import_archive

    if out is None and not report:
        raise UsageError(
            "nothing says what to do with the model", remedy="-o X.zip writes an archive, --report only looks"
        )
    choices = ImportChoices(
        name=name,
        version=version,
        epoch=epoch,
        labels=labels,
        preprocess=preprocess_of_options(size=size, resize=resize, color=color, mean=mean, scale=scale),
        golden=tuple(golden or ()),
        tolerance=tolerance,
    )
    with InstallProgress() as progress:
        imported = import_archive(archive, out, choices, overwrite=force, progress=progress.update)
    for warning in imported.report.warnings:
        typer.echo(f"mli: {warning}", err=True)
    if as_json:
        print(json.dumps(_json(imported, out), indent=2, ensure_ascii=False))
    else:
        _print(imported, out, operators=report)


def _print(imported: Imported, out: Path | None, *, operators: bool) -> None:
    if out is not None:
        print(f"{out}  {out.stat().st_size:,} bytes")
        print(f"  sha256   {imported.sha256}")
    for note in imported.report.notes:
        print(f"  found    {note}")
    print(f"  input    {input_text(imported.manifest.input)}")
    for image, found in imported.golden:
        best = f"{found[0].label} {found[0].confidence:.1%}" if found else "nothing"
        print(f"  golden   {Path(image).name}: {best}")
    if operators:
        for operator, count in imported.report.operators:
            print(f"  operator {count:4} x {operator}")
        print(f"  import   {imported.duration_s:.1f} s, at most {imported.peak_bytes / 1e6:.0f} MB of memory")


def _json(imported: Imported, out: Path | None) -> dict[str, Any]:
    report = imported.report
    return {
        "path": None if out is None else str(out),
        "sha256": imported.sha256,
        "symbol": report.symbol,
        "params": report.params,
        "mxnet_version": report.mxnet_version,
        "notes": list(report.notes),
        "warnings": list(report.warnings),
        "operators": dict(report.operators),
        "golden": {image: [prediction_json(item) for item in found] for image, found in imported.golden},
        "duration_s": round(imported.duration_s, 3),
        "peak_bytes": imported.peak_bytes,
    }
