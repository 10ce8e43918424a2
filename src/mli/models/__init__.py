"""Bytes that must not be trusted: model archives, their manifests and the repository on the device."""
