"""The signature that the EC2 core's script makes, before a store that checks it."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import pytest
from tests.fixtures.ec2_stack import aws_calls
from tests.fixtures.swift_server import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, SwiftServer


def signed_get(secret: str, key: str) -> tuple[str, str, dict[str, str]]:
    """Host, path and headers of the request that the script would send."""
    code = aws_calls(ArtifactKey="a.zip", ArtifactSha256="a" * 64).rpartition("\n")[0]  # without what starts it
    code = code.replace('os.environ["AWS_REGION"]', repr(REGION)).replace(
        'os.environ["AWS_SUFFIX"]', "'amazonaws.com'"
    )
    names: dict[str, Any] = {}
    exec(compile(code, "aws.py", "exec"), names)
    keys = json.dumps({"AccessKeyId": ACCESS_KEY, "SecretAccessKey": secret, "Token": "a-token"})
    names["metadata"] = lambda path: "a-role" if path.endswith("/") else keys
    request = names["signed"]("s3", f"s3.{REGION}.amazonaws.com", f"/{BUCKET}/{key}")
    return request.host, request.selector, dict(request.header_items())


def answer(swift: SwiftServer, secret: str, key: str) -> tuple[int, bytes]:
    host, path, headers = signed_get(secret, key)
    assert host == headers["Host"] == f"s3.{REGION}.amazonaws.com"
    connection = HTTPConnection(swift.endpoint.removeprefix("http://"))
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.parametrize("key", ["components/mli.zip", "components/mli.core/0.1.0+a_b-c/mli.zip"])
def test_a_store_takes_it(swift: SwiftServer, key: str) -> None:
    swift.put(key, b"the artifact")
    assert answer(swift, SECRET_KEY, key) == (200, b"the artifact")


def test_a_store_refuses_it_with_another_key(swift: SwiftServer) -> None:
    swift.put("a.zip", b"the artifact")
    status, said = answer(swift, "another", "a.zip")
    assert status == 403
    assert b"SignatureDoesNotMatch" in said
