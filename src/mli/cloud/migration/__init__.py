"""From the accelerator's set-up on Greengrass V1 to mli's files.

``reading`` finds out what a path holds and makes a ``Setup`` of it; ``planning`` decides what becomes of each of its
parts; ``writing`` backs up and writes. Neither boto3 nor an account is needed.
"""
