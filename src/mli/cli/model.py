"""``mli model``: make, look into and check model archives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.told_warnings import told_warnings
from mli.errors import MliError, UsageError

if TYPE_CHECKING:
    from mli.config.settings import PreprocessSettings
    from mli.core.proving import Proof
    from mli.models.packing import VerifyReport
    from mli.types import InputSpec, ModelSpec, OutputSpec, Prediction

model_app = typer.Typer(help="Make, look into and check model archives.", no_args_is_help=True, rich_markup_mode=None)

_KINDS = ("probabilities", "logits", "scores", "boxes", "detections", "yolo")
_SHOWN_LABELS = 3


@model_app.command()
def pack(
    files: Annotated[
        list[Path],
        typer.Argument(help="One .onnx or .tflite, one labels file, photos (they become golden samples), others."),
    ],
    out: Annotated[Path, typer.Option("-o", "--output-file", help="The archive to write: X.zip or X.tar.gz.")],
    name: Annotated[str | None, typer.Option(help="[default: the model file's name]")] = None,
    version: Annotated[str, typer.Option(help="Of the model.")] = "1",
    size: Annotated[str | None, typer.Option(help="Input size, as 224x224, where the model leaves it open.")] = None,
    resize: Annotated[str | None, typer.Option(help="stretch, letterbox or crop.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="nearest, bilinear, bicubic, area or lanczos.")] = None,
    color: Annotated[str | None, typer.Option(help="RGB, BGR or gray.")] = None,
    layout: Annotated[str | None, typer.Option(help="NCHW or NHWC, where the shape does not tell.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="x = (pixel - mean) * scale; one value, or one a channel: 124,117,104.")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="As --mean: 0.0078125.")] = None,
    pad: Annotated[int | None, typer.Option(help="Pixel value of letterbox borders.")] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The output is before softmax.")] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=probabilities|logits|scores|boxes|detections|yolo: of several outputs, or of a detector."
        ),
    ] = None,
    background: Annotated[str | None, typer.Option(help="Label that means: no object.")] = None,
    tolerance: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of golden confidences.")] = 0.02,
    license_: Annotated[str | None, typer.Option("--license", help="Of the model.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an archive that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a model archive from a model, its labels and a few photos."""
    from mli.core.pack_model import PackOptions, pack_model

    options = PackOptions(
        name=name,
        version=version,
        preprocess=preprocess_of_options(
            size=size,
            resize=resize,
            interpolation=interpolation,
            color=color,
            layout=layout,
            mean=mean,
            scale=scale,
            pad=pad,
        ),
        outputs=tuple(_output(item) for item in output or ()),
        logits=logits,
        background=background,
        tolerance=tolerance,
        license=license_,
        description=description,
    )
    report = pack_model(files, out, options, overwrite=force)
    for warning in report.warnings:
        typer.echo(f"mli: {warning}", err=True)
    if as_json:
        golden = {image: [prediction_json(item) for item in found] for image, found in report.golden}
        _print_json({"path": str(report.path), "sha256": report.sha256, "backend": report.backend, "golden": golden})
        return
    print(f"{report.path}  {report.path.stat().st_size:,} bytes")
    print(f"  sha256   {report.sha256}")
    print(f"  input    {input_text(report.manifest.input)}")
    for image, found in report.golden:
        best = f"{found[0].label} {found[0].confidence:.1%}" if found else "nothing"
        print(f"  golden   {Path(image).name}: {best}")


@model_app.command()
def inspect(
    archive: Annotated[Path, typer.Argument(help="A model archive.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what an archive holds; one without a manifest is asked through its model."""
    report, spec, problem = _opened(archive)
    if as_json:
        _print_json(_report_json(report, spec, problem))
        return
    print(f"{spec.name} {spec.version}  ({spec.format}, {spec.task})")
    print(f"  sha256   {report.sha256}")
    print(f"  manifest {'yes' if report.has_manifest else 'none: input and outputs are read from the model'}")
    print(f"  model    {spec.model_file}")
    if spec.input is not None:
        print(f"  input    {input_text(spec.input)}")
    for item in spec.outputs:
        print(f"  output   {item.name!r}: {item.kind}")
    more = f" · … ({len(spec.labels)} in all)" if len(spec.labels) > _SHOWN_LABELS else ""
    print(f"  labels   {' · '.join(spec.labels[:_SHOWN_LABELS])}{more}")
    for sample in spec.golden:
        best = f"{sample.expected[0].label} {sample.expected[0].confidence:.1%}" if sample.expected else "nothing"
        print(f"  golden   {sample.image}: {best}, within {sample.tolerance:g}")
    for member in report.files:
        print(f"  file     {member.path}  {member.size_bytes:,} bytes")
    if problem is not None:
        typer.echo(f"mli: {problem}", err=True)


@model_app.command()
def verify(
    archive: Annotated[Path, typer.Argument(help="A model archive.")],
    sha256: Annotated[str | None, typer.Option(help="Digest that the archive must have.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check an archive as a device would: rules, digests, labels, and what the model says of its golden samples."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mli-verify-") as folder:
        proven = prove(archive, Path(folder), sha256)
    if as_json:
        samples = [
            {"image": item.image, "difference": item.difference, "tolerance": item.tolerance, "ms": item.infer_ms}
            for item in proven.proofs
        ]
        body = {"path": str(archive), "sha256": proven.spec.sha256, "backend": proven.backend, "golden": samples}
        _print_json(body)
        return
    print(f"{archive}: good")
    print(f"  sha256   {proven.spec.sha256}")
    print(f"  backend  {proven.backend}, input {input_text(proven.input)}")
    for item in proven.proofs:
        print(
            f"  golden   {item.image}: {item.difference:.4f} off, {item.tolerance:g} allowed, {item.infer_ms:.0f} ms"
        )
    if not proven.proofs:
        print("  golden   none: only the files, the labels and the loading were checked")


@dataclass(frozen=True, slots=True)
class Proven:
    """A good archive, and what its model said of the golden samples."""

    spec: ModelSpec
    backend: str
    input: InputSpec
    proofs: tuple[Proof, ...]


def prove(archive: Path, folder: Path, sha256: str | None = None) -> Proven:
    """Check an archive as a device would, in a folder of its own.

    Args:
        sha256: digest that the archive must have.

    Raises:
        UsageError: there is no such file.
        RefusedError: it breaks a rule, or its model does not do what it promises.
    """
    from mli.core.proving import Prover

    _must_exist(archive)
    spec = _prepared(archive, folder, sha256)
    prover = Prover(spec)
    return Proven(spec, prover.backend, prover.io.input, tuple(prover.prove(spec.golden)))


def _must_exist(archive: Path) -> None:
    if not archive.is_file():
        what = "this is a folder, no archive" if archive.is_dir() else "there is no such file"
        raise UsageError(what, where=str(archive), expected="a model archive (.zip or .tar.gz)")


def _opened(archive: Path) -> tuple[VerifyReport, ModelSpec, MliError | None]:
    """The archive's report and its model, completed by asking the runtime where there is no manifest."""
    import tempfile
    from dataclasses import replace

    from mli.core.proving import Prover
    from mli.models.packing import verify as verify_archive

    _must_exist(archive)
    report = verify_archive(archive)
    if report.has_manifest:
        return report, report.spec, None
    with tempfile.TemporaryDirectory(prefix="mli-inspect-") as folder:
        try:
            spec = _prepared(archive, Path(folder))
            io = Prover(spec).io
        except MliError as error:
            return report, report.spec, error
    return report, replace(spec, input=io.input, outputs=io.outputs), None


def _prepared(archive: Path, folder: Path, sha256: str | None = None) -> ModelSpec:
    """The archive's model as a device prepares it, in a folder of its own."""
    from mli.core.preparing import prepare
    from mli.core.root import Root
    from mli.models.repository import Repository

    spec = Repository(folder).install(archive, sha256)
    with told_warnings():
        return prepare(spec, Root(folder), "auto", lambda text: typer.echo(f"mli: {text}", err=True))


def _report_json(report: VerifyReport, spec: ModelSpec, problem: MliError | None) -> dict[str, Any]:
    from mli import frozen_json

    body: dict[str, Any] = frozen_json.to_json(spec)
    del body["directory"]
    body["sha256"] = report.sha256
    body["manifest"] = report.has_manifest
    body["files"] = frozen_json.to_json(report.files)
    body["problem"] = None if problem is None else problem.to_json()
    return body


def input_text(spec: InputSpec) -> str:
    text = f"{spec.width} x {spec.height} {spec.color} {spec.dtype} {spec.layout}, {spec.resize} {spec.interpolation}"
    if set(spec.mean) != {0.0} or set(spec.scale) != {1.0}:
        text += f", (pixel - {_numbers(spec.mean)}) * {_numbers(spec.scale)}"
    return text


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def prediction_json(item: Prediction) -> dict[str, Any]:
    return {"label": item.label, "class_id": item.class_id, "confidence": item.confidence}


def _print_json(body: dict[str, Any]) -> None:
    print(json.dumps(body, indent=2, ensure_ascii=False))


def _output(text: str) -> OutputSpec:
    from mli.types import OutputSpec

    name, _, kind = text.rpartition("=")
    for known in _KINDS:
        if kind == known and name:
            return OutputSpec(name, known)  # type: ignore[arg-type]
    raise UsageError("--output says what one output means", expected=f"NAME={'|'.join(_KINDS)}", got=text)


def preprocess_of_options(**options: str | int | None) -> PreprocessSettings:
    """What the options of a command line change of the preprocessing; ``mean`` and ``scale`` are split at commas."""
    from mli.config.files import preprocess_of_arguments

    split = {
        key: value.split(",") if key in ("mean", "scale") and isinstance(value, str) else value
        for key, value in options.items()
        if value is not None
    }
    return preprocess_of_arguments(split)
