"""What mli is measured against: the loop that a good engineer writes in an afternoon.

Read, resize, infer, publish QoS 1, wait for every PUBACK at the end. It imports nothing of mli, keeps nothing on
disk, and loses what is in flight when it dies; it shows what the runtime and the broker's client alone can do. With a
symbol file it runs on MXNet, as the accelerator did; it is then started by the Python that has MXNet.

    python benchmarks/hand_written_loop.py '{"model": "m.onnx", ...}'
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def open_model(path: str, threads: int, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """A function from the input tensor to the first output; ``threads`` 0 is the runtime's default."""
    if path.endswith("-symbol.json"):
        return open_mxnet(path.removesuffix("-symbol.json"), shape)
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda tensor: session.run(None, {name: tensor})[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads or None)
    interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def infer(tensor: Any) -> Any:
        interpreter.set_tensor(place, tensor)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return infer


def open_mxnet(prefix: str, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """MXNet's Module; its threads are OMP_NUM_THREADS."""
    import mxnet

    symbol, arguments, auxiliary = mxnet.model.load_checkpoint(prefix, 0)
    module = mxnet.mod.Module(symbol, label_names=None)
    module.bind(data_shapes=[("data", shape)], for_training=False)
    module.set_params(arguments, auxiliary, allow_missing=True)

    def infer(tensor: Any) -> Any:
        module.forward(mxnet.io.DataBatch([mxnet.nd.array(tensor)]), is_train=False)
        return module.get_outputs()[0].asnumpy()

    return infer


def main() -> None:
    job = json.loads(sys.argv[1])
    paths = job["images"]
    labels = Path(job["labels"]).read_text().splitlines()
    width, height = job["size"]
    infer = open_model(job["model"], job["threads"], (1, 3, height, width))
    mean, scale = np.float32(job["mean"]), np.float32(job["scale"])
    plain = not mean.any() and (scale == 1).all()

    captured: dict[int, float] = {}
    acknowledged: dict[int, float] = {}
    connected = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: connected.set()
    client.on_publish = lambda _client, _data, number, *_: acknowledged.__setitem__(number, time.time())
    client.connect("127.0.0.1", job["port"])
    client.loop_start()
    connected.wait()

    next_at = time.monotonic()
    for number in range(job["frames"]):
        if job["interval_s"]:
            time.sleep(max(0.0, next_at - time.monotonic()))
            next_at += job["interval_s"]
        taken_at = time.time()
        image: Any = cv2.imread(paths[number % len(paths)])
        image = cv2.cvtColor(cv2.resize(image, tuple(job["size"])), cv2.COLOR_BGR2RGB)
        tensor = image if job["dtype"] == "uint8" else image.astype(np.float32)
        if not plain:
            tensor = (tensor - mean) * scale
        if job["layout"] == "NCHW":
            tensor = np.ascontiguousarray(tensor.transpose(2, 0, 1))
        values = infer(tensor[np.newaxis]).ravel()
        if job["kind"] == "logits":
            values = np.exp(values - values.max())
            values /= values.sum()
        elif values.dtype == np.uint8:
            values = np.float32(job["output_scale"]) * (values.astype(np.float32) - job["output_zero"])
        best = int(values.argmax())
        payload = json.dumps([{"confidence": str(values[best]), "prediction": labels[best]}])
        info = client.publish(job["topic"], payload, qos=1)
        captured[info.mid] = taken_at
    info.wait_for_publish()
    while len(acknowledged) < len(captured):
        time.sleep(0.005)
    client.disconnect()
    client.loop_stop()
    latencies = [1000 * (acknowledged[number] - at) for number, at in captured.items()]
    print(json.dumps({"latencies_ms": [round(value, 3) for value in latencies]}), flush=True)


if __name__ == "__main__":
    main()
