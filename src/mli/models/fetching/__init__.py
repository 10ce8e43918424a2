"""Brings a model archive to the device: from S3 and stores like it, over https, or from a path.

The network's side of it is a client of our own on sockets that never block: whatever the other end does, a transfer
is given up within half a second of being cancelled.
"""
