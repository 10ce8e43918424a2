"""What is made of models in the sandbox. Only the child imports the libraries of the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mli.errors import ModelRefused
from mli.models.mxnet.import_request import ImportOptions, ImportReport

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A model of another framework.

    Attributes:
        directory: where its files lie.
        out: an empty folder for the files of the native model.
    """

    directory: str
    out: str
    options: ImportOptions


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """An ONNX file, and the file that onnxruntime shall write."""

    model: str
    out: str


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """Which onnxruntime wrote the copy."""

    version: str


def import_mxnet(request: ImportRequest, note: Note) -> ImportReport:  # noqa: ARG001 - notes come all at once
    """Make a native model of an MXNet one.

    Raises:
        ArchiveRefused, ModelRefused: it cannot be read, or does what ONNX cannot say.
    """
    from mli.models.mxnet.importer import import_model

    return import_model(Path(request.directory), Path(request.out), request.options)


def compile_for_this_cpu(request: CompileRequest, note: Note) -> CompiledModel:  # noqa: ARG001 - it is one step
    """Write onnxruntime's own format with all optimisations for the processor at hand.

    Raises:
        ModelRefused: onnxruntime cannot load the model, or cannot write it.
    """
    import onnxruntime

    from mli.pipeline.estimators.onnx_external_data import check_external_data

    check_external_data(Path(request.model))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = request.out
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.disable_prepacking", "1")  # for running, which never happens here
    try:
        onnxruntime.InferenceSession(request.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelRefused(
            f"{Path(request.model).name}: onnxruntime cannot write it in its own format",
            got=str(error).partition("\n")[0],
        ) from error
    return CompiledModel(onnxruntime.__version__)
