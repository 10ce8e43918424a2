"""What MXNet's own venv runs: nothing here, nor in the package above, may need more than mxnet and numpy."""
