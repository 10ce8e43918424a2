"""Device and deployment files to frozen settings; the only reader of files and environment.

This package's own import is light: pydantic and YAML come only with ``mli.config.files``.
"""
