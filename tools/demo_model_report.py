"""Judge the demo model on frames it never met, write its card with its pictures, and the example images."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mli.pipeline.sources.belt import LABELS, render
from mli.pipeline.sources.belt_drawing.surface import HEIGHT, WIDTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Canvas = NDArray[np.uint8]

HELD_OUT_SEED, SHEET_SEED, EXAMPLE_SEED = 20_000, 35_000, 40_000
HELD_OUT = 2_000
EXAMPLES = {
    "aluminum can": 4, "cardboard box": 3, "empty belt": 2, "glass bottle": 4, "paper": 3, "plastic bottle": 4,
}  # fmt: skip
_FONT = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out of the judging.

    Attributes:
        confusion: (classes, classes) frames; rows are the truth, columns what the model said.
        archive_bytes: size of the archive.
        weights: numbers that were learned, as stored in the graph.
    """

    confusion: Counts
    archive_bytes: int
    weights: int

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / self.confusion.sum())


def _draw_small(index: int) -> tuple[NDArray[np.float32], int]:
    scene = render(HELD_OUT_SEED, index)
    small = cv2.cvtColor(cv2.resize(scene.image, (96, 96), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    return np.asarray(small, np.float32).transpose(2, 0, 1), LABELS.index(scene.label)


def judge(archive: Path) -> Verdict:
    """Run the packed model over the held-out frames with onnxruntime."""
    import onnx
    import onnxruntime

    with zipfile.ZipFile(archive) as opened:
        member = next(name for name in opened.namelist() if name.endswith(".onnx"))
        model = opened.read(member)
    weights = sum(int(np.prod(tensor.dims)) for tensor in onnx.load_from_string(model).graph.initializer)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    confusion = np.zeros((len(LABELS), len(LABELS)), np.int64)
    for index in range(HELD_OUT):
        pixels, truth = _draw_small(index)
        (logits,) = session.run(["logits"], {"image": pixels[None]})
        confusion[truth, int(np.argmax(logits))] += 1
    return Verdict(confusion, archive.stat().st_size, weights)


def _text(canvas: Canvas, text: str, at: tuple[int, int], scale: float, ink: int, centered: bool = False) -> None:
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    x = at[0] - width // 2 if centered else at[0]
    cv2.putText(canvas, text, (x, at[1]), _FONT, scale, (ink, ink, ink), 1, cv2.LINE_AA)


def draw_confusion(verdict: Verdict) -> Canvas:
    """The confusion matrix: rows are the truth, columns the predictions, deeper blue is a larger share."""
    cell_w, cell_h, left, top = 124, 64, 176, 96
    count = len(LABELS)
    canvas: Canvas = np.full((top + cell_h * count + 24, left + cell_w * count + 24, 3), 255, np.uint8)
    _text(canvas, f"{verdict.confusion.sum():,} held-out frames, {verdict.accuracy:.2%} right", (20, 32), 0.66, 30)
    _text(canvas, "predicted", (left + cell_w * count // 2, 60), 0.5, 110, centered=True)
    _text(canvas, "drawn", (20, top - 12), 0.5, 110)
    for row, label in enumerate(LABELS):
        _text(canvas, label, (20, top + row * cell_h + cell_h // 2 + 5), 0.52, 30)
        _text(canvas, label, (left + row * cell_w + cell_w // 2, top - 12), 0.48, 30, centered=True)
        total = max(int(verdict.confusion[row].sum()), 1)
        for column in range(count):
            frames = int(verdict.confusion[row, column])
            share = frames / total
            # A square root keeps a single mistake visible beside hundreds of right answers.
            depth = float(np.sqrt(share))
            paint = tuple(255 - depth * (255 - channel) for channel in (168, 88, 24))
            x, y = left + column * cell_w, top + row * cell_h
            cv2.rectangle(canvas, (x + 1, y + 1), (x + cell_w - 2, y + cell_h - 2), paint, -1)
            if frames:
                ink = 255 if depth > 0.6 else 40
                _text(canvas, str(frames), (x + cell_w // 2, y + 30), 0.62, ink, centered=True)
                _text(canvas, f"{share:.1%}", (x + cell_w // 2, y + 50), 0.42, ink, centered=True)
    return canvas


def draw_sheet() -> Canvas:
    """Five frames of each class under its name, at half their size."""
    across, size = 5, (WIDTH // 2, HEIGHT // 2)
    found: dict[str, list[Canvas]] = {label: [] for label in LABELS}
    index = 0
    while any(len(images) < across for images in found.values()):
        scene = render(SHEET_SEED, index)
        index += 1
        if len(found[scene.label]) < across:
            small = cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA)
            found[scene.label].append(np.asarray(small, np.uint8))
    rows = []
    for label in LABELS:
        title: Canvas = np.full((26, size[0] * across, 3), 255, np.uint8)
        _text(title, label, (6, 19), 0.52, 30)
        rows += [title, np.hstack(found[label])]
    return np.vstack(rows)


def write_examples(folder: Path) -> None:
    """The committed example images: JPEG, as a camera would store them."""
    folder.mkdir(parents=True, exist_ok=True)
    written = dict.fromkeys(EXAMPLES, 0)
    index = 0
    while written != EXAMPLES:
        scene = render(EXAMPLE_SEED, index)
        index += 1
        if written[scene.label] < EXAMPLES[scene.label]:
            written[scene.label] += 1
            name = f"{scene.label.replace(' ', '_')}-{written[scene.label]:02d}.jpg"
            cv2.imwrite(str(folder / name), scene.image, [cv2.IMWRITE_JPEG_QUALITY, 90])


def _per_class(confusion: Counts) -> str:
    lines = ["| class | frames | found (recall) | right when said (precision) |", "|---|---:|---:|---:|"]
    for number, label in enumerate(LABELS):
        right, drawn, said = confusion[number, number], confusion[number].sum(), confusion[:, number].sum()
        lines.append(f"| {label} | {drawn} | {right / max(drawn, 1):.1%} | {right / max(said, 1):.1%} |")
    return "\n".join(lines)


CARD = """# The demo model

`src/mli/assets/recycling.zip` names the one thing that lies on a recycling conveyor belt: {labels}.

**It is synthetic.** It was trained on drawn frames only, and the accuracy below was measured on drawn frames only. No
photo of a real belt was ever used. It says nothing about how well the same network would do in a plant.

- **For:** the demo, tests, benchmarks, and as a template for a model archive of your own.
- **Not for:** sorting anything real, or comparing models. Real frames look different, hold several things at once and
  things of none of these classes; this model always answers with one of its six labels, and may be sure and wrong.

## Its frames

![Five drawn frames of each class](img/demo-frames.png)

`mli.pipeline.sources.belt` draws them from a seed: 320 × 240 pixels, one thing or none on a belt. Varied are the belt
(rubber, fabric, PVC, modular plastic, steel mesh, rollers), the thing's shape, print, size and direction, dents and
creases, two lamps with their shadows and highlights, the light's colour and evenness, dirt, water and litter, motion
blur, focus and sensor noise. One frame in five may be cut by the frame's edge. The brands are made up.

## How well it does

{frames} held-out frames, whose seed was not trained on: **{accuracy:.2%} right**. So many frames fix that to about
± {margin:.1%} (95 %); other seeds, or fewer frames, give other shares, a few hundred frames easily a point less.

{per_class}

![Confusion matrix](img/demo-confusion.png)

## How it was made

```
pip install . torch onnx
python tools/train_demo_model.py --frames {training_frames} --epochs {epochs} --seed {seed}
```

A plain convolutional network of seven 3 × 3 layers and {weights:,} stored numbers (weights, biases and constants),
trained on {training_frames:,} drawn frames for {epochs} epochs, each frame mirrored and tinted at random. The same
command gives the same frames; the last digits of the weights depend on the processor and the version of PyTorch.

| | |
|---|---|
| input | `image`: float32, (batch, 3, 96, 96), RGB, 0 to 255; the whole frame stretched, bilinear |
| normalisation | the first layer of the graph, so that the archive works without a mean or a scale |
| output | `logits`: float32, (batch, 6), before softmax |
| archive | {archive_kb:,} KB with six golden samples, one a class |
| licence | Apache-2.0, for the weights, the frames and the example images |

`python tools/train_demo_model.py --skip-training` packs and judges again without training, and writes this page, its
pictures and `examples/belt/`.
"""


def write_all(root: Path, archive: Path, training_frames: int, epochs: int, seed: int) -> None:
    """Judge the archive and write everything that shows it."""
    verdict = judge(archive)
    pictures = root / "docs" / "img"
    pictures.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(pictures / "demo-confusion.png"), draw_confusion(verdict))
    cv2.imwrite(str(pictures / "demo-frames.png"), draw_sheet(), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    write_examples(root / "examples" / "belt")
    card = CARD.format(
        labels=", ".join(LABELS),
        frames=f"{verdict.confusion.sum():,}",
        accuracy=verdict.accuracy,
        margin=1.96 * float(np.sqrt(verdict.accuracy * (1 - verdict.accuracy) / verdict.confusion.sum())),
        per_class=_per_class(verdict.confusion),
        training_frames=training_frames,
        epochs=epochs,
        seed=seed,
        weights=verdict.weights,
        archive_kb=round(verdict.archive_bytes / 1024),
    )
    (root / "docs" / "demo-model.md").write_text(card, encoding="utf-8")
    judged = f"{verdict.accuracy:.2%} of {verdict.confusion.sum():,} held-out frames right"
    print(f"{judged}; {archive} is {verdict.archive_bytes:,} bytes")
