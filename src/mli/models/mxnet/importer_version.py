"""Which importer made a cached model; raise it when the same archive would give another ONNX model."""

IMPORTER_VERSION = "1"
