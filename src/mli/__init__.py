"""Run a pre-trained model on an edge device and publish its predictions over MQTT."""

__version__ = "0.1.0"
