"""An MXNet archive's files to a native model: ``model.onnx``, its weights, its labels and a manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from mli.errors import ModelRefused
from mli.models.contents import labels_file
from mli.models.labels import read_labels
from mli.models.manifest import MANIFEST_NAME, Manifest
from mli.models.mxnet.archive_files import MxnetFiles, find_mxnet
from mli.models.mxnet.attributes import OperatorProblem
from mli.models.mxnet.building import MODEL_NAME, WEIGHTS_NAME, Tensor
from mli.models.mxnet.detection_head import join_heads
from mli.models.mxnet.import_request import ImportOptions, ImportReport
from mli.models.mxnet.inputs import (
    ImageInput,
    StatedSize,
    class_count,
    find_image_input,
    other_sides,
    stated_size,
    usual_sides,
)
from mli.models.mxnet.meaning import Meaning, find_meaning, predicting_heads
from mli.models.mxnet.params import Params, read_params
from mli.models.mxnet.symbol import Entry, Symbol, read_symbol
from mli.models.mxnet.translate import ShapesRefused, Translation, translate
from mli.models.packing import hashed
from mli.models.rules import listed, shown
from mli.types import InputSpec, OutputSpec

LABELS_NAME = "labels.txt"
_TRIES_OF_ONE_ERROR = 4
_LEAST_TRIES, _NODES_TRIED = 50, 60_000
"""A large network is not tried with every size that there is."""
_TYPICAL_SIDES = (224, 299, 28, 32)
_OTHER_SIDES = (32, 64, 96, 100, 112, 128, 150, 160, 192, 200, 224, 256, 299, 320, 512)
_OTHERS_TOLD = 3
_NORMALIZATIONS = ("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm")
_GAMMA_TOLERANCE = 1e-3
_BACKGROUND = ("background", "__background__", "_background_", "bg")


def import_model(directory: Path, out: Path, options: ImportOptions) -> ImportReport:
    """Import the MXNet model of extracted files into the empty folder ``out``.

    Raises:
        ArchiveRefused: the files are not one MXNet model with its labels.
        ModelRefused: the model cannot be read or translated, or does not fit its labels.
    """
    return _Import(directory, options).run(out)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A translation with an input size and a rounding of pooling for which all shapes fit."""

    translation: Translation
    meaning: Meaning
    width: int
    height: int
    round_up: bool


class _Import:
    def __init__(self, directory: Path, options: ImportOptions) -> None:
        self._directory = directory
        self._options = options
        self._notes: list[str] = []
        self._warnings: list[str] = []
        paths = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
        self._files: MxnetFiles = find_mxnet(paths, options.name, options.epoch)
        self._labels_name, self._labels = self._read_labels(paths)
        self._symbol: Symbol = read_symbol(directory / self._files.symbol)
        self._params: Params = read_params(directory / self._files.params)

    def run(self, out: Path) -> ImportReport:
        self._tell_files()
        heads, training = predicting_heads(self._symbol, self._params)
        if training:
            self._notes.append(f"outputs that only training needs are left out: {', '.join(training)}")
        image = find_image_input(self._symbol, self._params, heads)
        stated = self._stated(image)
        if stated is not None and stated.channels is not None and image.guessed:
            image = replace(image, channels=stated.channels)
        fit = self._fit(image, heads, stated)
        self._tell_ignored_gamma()
        labels = self._fitting_labels(fit.meaning)
        outputs, graph = self._outputs(fit), fit.translation.graph
        graph.save(out, outputs)
        if graph.not_finite:
            self._warnings.append(
                f"{len(graph.not_finite)} parameters ({listed(graph.not_finite)}) hold NaN or infinite values: "
                "the training did not converge, or the file is damaged"
            )
        (out / LABELS_NAME).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        manifest = self._manifest(image, fit, outputs)
        files = tuple(hashed(name, out / name) for name in (LABELS_NAME, MODEL_NAME, WEIGHTS_NAME))
        (out / MANIFEST_NAME).write_bytes(replace(manifest, files=files).to_bytes())
        return ImportReport(
            self._files.symbol,
            self._files.params,
            self._symbol.version,
            tuple(self._notes),
            tuple(self._warnings),
            fit.translation.operators,
        )

    def _tell_files(self) -> None:
        files = self._files
        epoch = "" if files.epoch is None else f" (epoch {files.epoch})"
        others = f"; not epoch {', '.join(map(str, files.other_epochs))}" if files.other_epochs else ""
        kind = "" if files.kind == "mxnet" else f", {files.kind}"
        self._notes.append(f"{files.symbol} of MXNet {self._symbol.version}{kind}, {files.params}{epoch}{others}")

    # --- labels ----------------------------------------------------------------------------------------------

    def _read_labels(self, paths: list[str]) -> tuple[str, tuple[str, ...] | None]:
        if self._options.labels is not None:
            path = Path(self._options.labels)
            return path.name, read_labels(path)
        name = labels_file(paths, self._options.name, self._files.symbol, needed=self._files.kind == "mxnet")
        if name is None:
            return "", None
        return name, read_labels(self._directory / name)

    def _fitting_labels(self, meaning: Meaning) -> tuple[str, ...]:
        count = meaning.count or class_count(self._directory, self._files)
        labels = self._labels
        if labels is None:
            if count is None:
                raise self._labels_refused("one label a line, one for each class", "no labels file")
            self._warnings.append(
                f"the archive has no labels: its {count} classes are called 0 to {count - 1}; "
                "name them with `mli model import ARCHIVE --labels labels.txt -o X.zip`"
            )
            return tuple(str(index) for index in range(count))
        surplus = meaning.task == "detection" and count is not None and len(labels) == count + 1
        if surplus and labels[0].lower() in _BACKGROUND:
            self._notes.append(f"the first label, {shown(labels[0])}, is the background and is left out")
            return labels[1:]
        if count is not None and len(labels) != count:
            raise self._labels_refused(
                f"{count} lines, one for each class of {self._files.symbol}", f"{len(labels)} lines"
            )
        return labels

    def _labels_refused(self, expected: str, found: str) -> ModelRefused:
        return ModelRefused(
            "The MXNet model and its labels do not belong together.",
            where=self._labels_name or self._options.name,
            expected=expected,
            got=found,
            remedy="put the synset.txt of the training data beside the model, or give it with --labels",
        )

    # --- size, rounding, meaning -----------------------------------------------------------------------------

    def _fit(self, image: ImageInput, heads: tuple[Entry, ...], stated: StatedSize | None) -> _Fit:
        """The first size and rounding with which all shapes fit.

        Raises:
            ShapesRefused: none does; the error is that of the first try.
        """
        refusals: list[ShapesRefused] = []
        most_tries = max(_LEAST_TRIES, _NODES_TRIED // len(self._symbol.nodes))
        for width, height, round_up in self._tries(image, stated):
            try:
                fit = self._try(image, heads, width, height, round_up)
            except ShapesRefused as error:
                error.__cause__ = error.__context__ = None  # they would keep every graph that was tried
                refusals.append(error.with_traceback(None))
                if len(refusals) == _TRIES_OF_ONE_ERROR and len({str(refusal) for refusal in refusals}) == 1:
                    break  # neither size nor rounding makes a difference to it
                if len(refusals) == most_tries:
                    break
            else:
                others = [] if stated is not None else list(islice(self._others(image, heads, fit), _OTHERS_TOLD))
                self._tell_fit(image, fit, stated, refusals, others)
                return fit
        raise refusals[0]

    def _tries(self, image: ImageInput, stated: StatedSize | None) -> Iterator[tuple[int, int, bool]]:
        """Sizes and roundings in the order of their likelihood: down as MXNet 1.x, up as before it had a convention.

        A file of MXNet 0.8 or older may well mean up. Later ones do only where they were saved again from such a
        file: every usual size is tried with rounding down before. Unusual sizes come last: they are many.
        """
        pooling = [node for node in self._symbol.nodes if node.op in ("Pooling", "Pooling_v1")]
        silent = any("pooling_convention" not in node.attributes for node in pooling)
        roundings = (False, True) if silent else (False,)
        groups: list[list[tuple[int, int]]] = (
            [[(stated.width, stated.height)]]
            if stated
            else [[(side, side) for side in sides] for sides in (usual_sides(image.channels), other_sides())]
        )
        for sizes in groups:
            if self._symbol.old_style:
                yield from ((*size, round_up) for size in sizes for round_up in roundings)
            else:
                yield from ((*size, round_up) for round_up in roundings for size in sizes)

    def _stated(self, image: ImageInput) -> StatedSize | None:
        if self._options.size is not None:
            return StatedSize(*self._options.size, "as asked for")
        return stated_size(self._directory, self._files, self._symbol, image.name)

    def _try(self, image: ImageInput, heads: tuple[Entry, ...], width: int, height: int, round_up: bool) -> _Fit:
        shapes = {image.name: image.shape(width, height)}
        translation = translate(self._symbol, self._params, shapes, heads=heads, round_up=round_up)
        count = None if self._labels is None else len(self._labels)
        meaning = find_meaning(self._symbol, translation, heads, count)
        if meaning.heads != heads:
            translation = translate(self._symbol, self._params, shapes, heads=meaning.heads, round_up=round_up)
        return _Fit(translation, meaning, width, height, round_up)

    def _others(self, image: ImageInput, heads: tuple[Entry, ...], fit: _Fit) -> Iterator[int]:
        """Other sides with which all shapes would fit as well."""
        for side in _OTHER_SIDES:
            if side != fit.width:
                with contextlib.suppress(ShapesRefused):
                    self._try(image, heads, side, side, fit.round_up)
                    yield side

    def _tell_fit(
        self,
        image: ImageInput,
        fit: _Fit,
        stated: StatedSize | None,
        refusals: Sequence[ShapesRefused],
        others: Sequence[int],
    ) -> None:
        color = "gray" if image.channels == 1 else "RGB"
        as_well = f"; {', '.join(map(str, others))} would fit as well" if others else ""
        reason = stated.source if stated else f"not said in the archive; with it all shapes fit{as_well}"
        self._notes.append(f"input {image.name}: {fit.width} x {fit.height} {color}, 0-255 ({reason})")
        if others and fit.width not in _TYPICAL_SIDES:
            self._warnings.append(
                f"the input size {fit.width} x {fit.height} is a guess{as_well}: if it was trained with another, "
                f"say `preprocess: {{size: {others[0]}x{others[0]}}}`, or `mli model import --size`"
            )
        if fit.round_up:
            cause = refusals[0]
            self._notes.append(
                "pooling rounds up: the file predates MXNet's convention (down), which its shapes do not fit: "
                f"{cause.what.rstrip('.')}: {cause.got}"
            )
        elif self._symbol.old_style and any(node.op == "Pooling" for node in self._symbol.nodes):
            self._notes.append("pooling rounds down, as MXNet 1.x reads this old file: its shapes fit")
        self._notes.append(f"output: {fit.meaning.note}")

    def _tell_ignored_gamma(self) -> None:
        """MXNet sets a gamma that it ignores to 1 when it trains; another value means that it was learnt once."""
        ignored = []
        for node in self._symbol.nodes:
            if node.op in _NORMALIZATIONS and "fix_gamma" not in node.attributes and len(node.inputs) > 1:
                gamma = self._params.arrays.get(self._symbol.nodes[node.inputs[1].node].name)
                if gamma is not None and bool((abs(gamma.read() - 1) > _GAMMA_TOLERANCE).any()):
                    ignored.append(node.name)
        if ignored:
            self._warnings.append(
                f"{len(ignored)} BatchNorm layers (the first is {shown(ignored[0])}) have a gamma other than 1, "
                "ignored as by MXNet 1.x, for the file does not say fix_gamma=False; if it was learnt, add that"
            )

    # --- writing -----------------------------------------------------------------------------------------------

    def _outputs(self, fit: _Fit) -> tuple[Tensor, ...]:
        tensors = fit.translation.outputs
        if len(tensors) == 3:
            try:
                return (join_heads(fit.translation.graph, *tensors, fit.width, fit.height),)
            except OperatorProblem as problem:
                raise ModelRefused(
                    "The outputs of the MXNet network are not a detector's ids, scores and boxes.",
                    where=self._symbol.file_name,
                    expected=problem.expected,
                    got=problem.found,
                ) from problem
        return tensors

    def _manifest(self, image: ImageInput, fit: _Fit, outputs: tuple[Tensor, ...]) -> Manifest:
        return Manifest(
            name=self._options.name,
            version=self._options.version,
            format="onnx",
            task=fit.meaning.task,
            model=MODEL_NAME,
            labels=LABELS_NAME,
            input=InputSpec(
                name=image.name,
                width=fit.width,
                height=fit.height,
                layout="NHWC" if image.channels_last else "NCHW",
                color="gray" if image.channels == 1 else "RGB",
            ),
            outputs=tuple(OutputSpec(tensor.name, fit.meaning.kind) for tensor in outputs),
            description=f"imported from {self._files.symbol} and {self._files.params}",
        )
