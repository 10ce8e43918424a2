"""Make the demo model: draw frames, train a small network, export it, pack the archive, judge it, write its card.

    pip install . torch onnx
    python tools/train_demo_model.py

Everything comes from seeds: training, judging, golden samples, example images and the tests each have a range of
their own, so no frame is ever met twice. ``--skip-training`` packs and judges an ONNX file that was made before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mli.pipeline.sources.belt import LABELS, render

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

ROOT = Path(__file__).resolve().parent.parent
SIDE = 96
TRAINING_SEED, GOLDEN_SEED = 1_000, 30_000
BATCH = 128


def shrink(image: Frames) -> Frames:
    """What the product does to a frame before this model: stretch, bilinear, RGB; uint8 (SIDE, SIDE, 3)."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)


def _draw(numbers: tuple[int, int]) -> tuple[Frames, int]:
    scene = render(*numbers)
    return shrink(scene.image), LABELS.index(scene.label)


def draw_set(seed: int, count: int) -> tuple[Frames, NDArray[np.int64]]:
    """``count`` frames as (count, SIDE, SIDE, 3) RGB and their class numbers, drawn on all cores."""
    frames = np.empty((count, SIDE, SIDE, 3), np.uint8)
    classes = np.empty(count, np.int64)
    started = time.monotonic()
    with multiprocessing.Pool(initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        jobs = ((seed, index) for index in range(count))
        for index, (frame, number) in enumerate(pool.imap(_draw, jobs, chunksize=64)):
            frames[index], classes[index] = frame, number
            if (index + 1) % 4000 == 0 or index + 1 == count:
                print(f"drawn {index + 1}/{count} frames in {time.monotonic() - started:.0f} s", flush=True)
    return frames, classes


def build_network() -> Any:
    """RGB 0 to 255, (n, 3, SIDE, SIDE), in; six logits out; about 105,000 weights.

    The normalisation is the first layer, inside the graph: whoever runs the archive can then not get it wrong,
    with or without its manifest.
    """
    import torch
    from torch import nn

    class Normalise(nn.Module):  # type: ignore[misc]
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return (pixels - 110.0) * (1 / 64.0)

    def block(wide_in: int, wide_out: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        return [convolution, nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True)]

    return nn.Sequential(
        Normalise(),
        *block(3, 16, 2),
        *block(16, 24, 2),
        *block(24, 24, 1),
        *block(24, 48, 2),
        *block(48, 48, 1),
        *block(48, 64, 2),
        *block(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, len(LABELS)),
    )


def vary(batch: Any, random: Any) -> Any:
    """Cheap variety: mirrored frames, another brightness, another colour of the light. ``batch`` is float, NCHW."""
    import torch

    count = len(batch)
    for axis in (2, 3):
        chosen = torch.rand(count, generator=random) < 0.5
        batch[chosen] = batch[chosen].flip(axis)
    gain = 1 + 0.15 * torch.randn(count, 1, 1, 1, generator=random).clamp(-2, 2)
    tint = 1 + 0.05 * torch.randn(count, 3, 1, 1, generator=random).clamp(-2, 2)
    return (batch * gain * tint).clamp(0, 255)


def train(frames: Frames, classes: NDArray[np.int64], epochs: int, seed: int) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = build_network().to(memory_format=torch.channels_last)
    pixels, truth = torch.from_numpy(frames), torch.from_numpy(classes)
    steps = len(frames) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=epochs * steps, pct_start=0.2)
    judge = nn.CrossEntropyLoss(label_smoothing=0.02)
    for epoch in range(epochs):
        started, loss_sum, right = time.monotonic(), 0.0, 0
        network.train()
        for chosen in torch.randperm(len(frames), generator=random)[: steps * BATCH].split(BATCH):
            batch = pixels[chosen].permute(0, 3, 1, 2).float()  # channels stay last in memory
            logits = network(vary(batch, random))
            loss = judge(logits, truth[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += float(loss.detach())
            right += int((logits.argmax(1) == truth[chosen]).sum())
        share = right / (steps * BATCH)
        took = time.monotonic() - started
        print(f"epoch {epoch + 1}/{epochs}  loss {loss_sum / steps:.4f}  right {share:.2%}  {took:.0f} s", flush=True)
    return network.eval()


def export(network: Any, path: Path) -> None:
    import torch

    network = network.to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(path),
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
    )


def write_golden(folder: Path) -> list[Path]:
    """One frame a class, at half its size to keep the archive small."""
    paths: dict[str, Path] = {}
    index = 0
    while len(paths) < len(LABELS):
        scene = render(GOLDEN_SEED, index)
        index += 1
        if scene.label not in paths:
            half = cv2.resize(scene.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            path = folder / f"golden-{scene.label.replace(' ', '-')}.png"
            cv2.imwrite(str(path), half, [cv2.IMWRITE_PNG_COMPRESSION, 9])
            paths[scene.label] = path
    return [paths[label] for label in LABELS]


def pack(folder: Path, archive: Path) -> None:
    """``mli model pack`` does it, as for any other model."""
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    golden = write_golden(folder)
    archive.unlink(missing_ok=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    files = [str(path) for path in (folder / "model.onnx", folder / "labels.txt", *golden)]
    options = ["--name", "recycling", "--version", "1.0.0", "--logits", "--license", "Apache-2.0"]
    subprocess.run([sys.executable, "-m", "mli", "model", "pack", *files, "-o", str(archive), *options], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=18_000, help="training frames")
    parser.add_argument("--epochs", type=int, default=11)
    parser.add_argument("--seed", type=int, default=7, help="of the weights and the order of the frames")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "demo-model", help="folder for what is in between"
    )
    parser.add_argument("--skip-training", action="store_true", help="take model.onnx from the work folder")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if not arguments.skip_training:
        frames, classes = draw_set(TRAINING_SEED, arguments.frames)
        network = train(frames, classes, arguments.epochs, arguments.seed)
        export(network, arguments.work / "model.onnx")
        how = {"frames": arguments.frames, "epochs": arguments.epochs, "seed": arguments.seed}
        (arguments.work / "training.json").write_text(json.dumps(how), encoding="utf-8")
    how = json.loads((arguments.work / "training.json").read_text(encoding="utf-8"))
    archive = ROOT / "src" / "mli" / "assets" / "recycling.zip"
    pack(arguments.work, archive)
    import demo_model_report

    demo_model_report.write_all(ROOT, archive, how["frames"], how["epochs"], how["seed"])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    main()
