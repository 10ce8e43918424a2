"""What the parts hand to each other: frames, predictions, messages, records and model specifications.

Everything here is frozen and free of any library but numpy's types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

Resize = Literal["stretch", "letterbox", "crop"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]
Color = Literal["RGB", "BGR", "gray"]
Layout = Literal["NCHW", "NHWC"]
Dtype = Literal["uint8", "int8", "float16", "float32"]
OutputKind = Literal["probabilities", "logits", "scores", "boxes", "detections", "yolo"]
Format = Literal["onnx", "tflite", "mxnet"]
"""``mxnet`` is imported to ``onnx`` on the device, before anything runs it."""
Task = Literal["classification", "detection"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image as a source delivered it.

    Attributes:
        image_name: base name of the file, or the name a camera gave it.
        captured_at: Unix time, seconds.
        image: uint8, shape (height, width, 3), BGR as OpenCV decodes it.
        position: where the source goes on after this frame; opaque to everyone but the source.
        truth: the label that a simulated camera knows to be right.
    """

    image_name: str
    captured_at: float
    image: Image
    position: str
    truth: str | None = None


@dataclass(frozen=True, slots=True)
class SkippedFrame:
    """An image that could not be used, and why; its position counts as passed."""

    image_name: str
    reason: str
    position: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in parts of the frame's width and height: 0 left and top, 1 right and bottom."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """One object that the model saw.

    Attributes:
        confidence: the float32 that the model gave, widened without rounding.
    """

    label: str
    class_id: int
    confidence: float
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT publish.

    Attributes:
        id: ``<spool epoch>-<pipeline>-<sequence>``; a rule's message adds ``-<rule>``. The same for a re-run.
        captured_at: Unix time of the frame, seconds.
        model_sha256: digest of the archive whose model made it.
    """

    id: str
    pipeline: str
    sequence: int
    topic: str
    payload: bytes
    qos: int
    captured_at: float
    model_sha256: str


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What one rule made of one frame: fired, or why not."""

    rule: str
    fired: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule asks the core to run one of the device's named commands, at most once.

    Attributes:
        captured_at: Unix time of the frame, seconds; the firing is dropped ``max_age_s`` after it.
    """

    rule: str
    command: str
    captured_at: float
    max_age_s: float
    label: str
    confidence: float
    image_name: str


@dataclass(frozen=True, slots=True)
class Counters:
    """A pipeline's account since its spool was made.

    Attributes:
        frames: frames that were predicted.
        skipped: images that could not be used.
        dropped: frames that a live source dropped for a newer one.
        judged: frames whose truth was known.
        right: those of them whose first prediction was the truth.
    """

    frames: int = 0
    skipped: int = 0
    dropped: int = 0
    judged: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """All that one frame brought, as it crosses from the worker to the core and into the spool.

    Attributes:
        number: counts this worker's records from 1; acknowledgements name it.
        sequence: the frame's place in the pipeline; None where only the position moved (skipped images).
        position: where the source goes on after this record.
        finite: a finite source waits for a full spool, a live one drops the oldest.
        latency_ms: from the frame's capture to its record.
    """

    number: int
    pipeline: str
    sequence: int | None
    position: str | None
    finite: bool
    counters: Counters
    messages: tuple[Message, ...] = ()
    firings: tuple[Firing, ...] = ()
    outcomes: tuple[RuleOutcome, ...] = ()
    skipped: tuple[SkippedFrame, ...] = ()
    image_name: str = ""
    truth: str | None = None
    predictions: tuple[Prediction, ...] = ()
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ResumeState:
    """Where a pipeline stands in the spool; a worker starts from it.

    Attributes:
        epoch: the spool's identity, made once at random; part of each message id.
        next_sequence: the sequence of the next frame.
        position: the source's last committed position, None for a fresh start.
    """

    epoch: str
    next_sequence: int = 1
    position: str | None = None
    counters: Counters = Counters()


@dataclass(frozen=True, slots=True)
class Caution:
    """What a worker is told of the workers before it.

    Attributes:
        one_by_one: the last one died; begin with one frame at a time, naming each, until the guilty one is passed.
        avoid: positions of frames that ended a worker while they alone were worked on; they are skipped.
    """

    one_by_one: bool = False
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantization:
    """real value = (stored value - zero_point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A model's input or output as its runtime reports it.

    Attributes:
        shape: sizes, None where the model leaves one open.
        dtype: numpy's name of the element type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a frame becomes the model's input: x = (pixel - mean) * scale, per channel, then layout and dtype.

    Attributes:
        width, height: pixels that the model wants.
        color: channel order; ``gray`` is one channel.
        mean, scale: one value, or one a channel, in units of 0-255 pixels.
        pad: pixel value of letterbox borders.
        quantization: where given, x is stored as round(x / scale + zero_point), clipped to the dtype.
    """

    name: str
    width: int
    height: int
    dtype: Dtype = "float32"
    layout: Layout = "NCHW"
    color: Color = "RGB"
    resize: Resize = "stretch"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    pad: int = 0
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What one output of the model means.

    Attributes:
        kind: ``probabilities`` or ``logits`` (softmax is applied) of a classifier, shape (1, labels);
            ``scores`` (1, boxes, labels) and ``boxes`` (1, boxes, 4; relative left, top, right, bottom) of a
            detector; ``detections`` (1, boxes, 6) of one that has already taken out boxes that overlap a better one:
            class id, score, relative left, top, right, bottom. A class id of -1 means that the row holds nothing;
            ``yolo`` (1, boxes, 4 + labels) or (1, 4 + labels, boxes): centre x and y, width and height, in pixels of
            the input or relative, and a score a label; with one more value before these, they are multiplied by it.
    """

    name: str
    kind: OutputKind
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """An encoded image with the predictions that the model must give for it.

    Attributes:
        image: path of the image inside the archive.
        expected: the predictions, most confident first.
        tolerance: largest allowed difference of a confidence (and of a box edge).
    """

    image: str
    expected: tuple[Prediction, ...]
    tolerance: float


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """An installed model: where its files lie and what its manifest says of them.

    Attributes:
        sha256: digest of the archive's bytes, hexadecimal.
        directory: absolute path of the extracted files.
        model_file: path of the model inside ``directory``.
        input: None where no manifest says it; it is then read from the model.
        outputs: empty where no manifest says them.
        background: label to leave out of a detector's results, if it has one.
        compiled_file: absolute path of a copy that the backend made of the model for this device, if there is one.
    """

    name: str
    version: str
    sha256: str
    format: Format
    task: Task
    directory: str
    model_file: str
    labels: tuple[str, ...]
    input: InputSpec | None = None
    outputs: tuple[OutputSpec, ...] = ()
    background: str | None = None
    golden: tuple[GoldenSample, ...] = field(default=())
    compiled_file: str | None = None
