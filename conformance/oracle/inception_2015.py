"""What MXNet says of photos with the symbol file of 2015, whose pooling rounds up. Started by MXNet's python.

    python -m conformance.oracle.inception_2015 SYMBOL IMAGES.npy OUT.npz

IMAGES has float32 (N, 3, 224, 224), RGB, 0-255. OUT gets ``fc_bias``, which makes the images' classes differ, and
``probabilities`` (N, 1000). The weights are those of tests/fixtures/inception_weights.py.
"""

import sys
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from tests.fixtures.inception_weights import inception_weights

from conformance.oracle.networks import read_old
from conformance.oracle.weights import Symbol


def main() -> None:
    file, images, out = Path(sys.argv[1]), np.load(sys.argv[2]), Path(sys.argv[3])
    symbol = read_old(file)
    logits = run(symbol.get_internals()["fc_output"], inception_weights(file), images)
    fc_bias = -logits.mean(axis=0)
    probabilities = run(symbol, inception_weights(file, fc_bias), images)
    np.savez_compressed(out, fc_bias=fc_bias, probabilities=probabilities)
    print(probabilities.argmax(axis=1), probabilities.max(axis=1))


def run(symbol: Symbol, weights: dict[str, Any], images: Any) -> Any:
    """The one output of a symbol, for all images."""
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=images.shape)
    for values in (executor.arg_dict, executor.aux_dict):
        for name in values:
            if name in weights:
                values[name][:] = weights[name]
    executor.forward(is_train=False, data=mx.nd.array(images))
    return executor.outputs[0].asnumpy()


if __name__ == "__main__":
    main()
