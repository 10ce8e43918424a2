"""Reads MXNet's files and writes ONNX: symbol and parameters in, one model and its weights out.

Nothing of MXNet is needed. Only a sandboxed child process imports this package (it needs numpy and onnx, and parses
bytes that nobody has checked); the core and the workers never do.
"""
