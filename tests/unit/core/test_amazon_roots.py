"""Amazon's authorities come from a trust store by their digests, and nothing else comes with them."""

from __future__ import annotations

import base64
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from tests.fixtures.device_files import elliptic_key, make_certificate

from mli.core.amazon_roots import NEEDED, ROOTS, amazon_roots
from mli.core.certificates import check_authorities
from mli.errors import StopError


def test_this_machine_has_them_and_a_device_can_use_the_file(tmp_path: Path) -> None:
    found = amazon_roots()
    assert found.names == tuple(ROOTS.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        certificates = x509.load_pem_x509_certificates(found.pem)
    assert [item.fingerprint(hashes.SHA256()).hex() for item in certificates] == list(ROOTS)
    (tmp_path / "root.ca.pem").write_bytes(found.pem)
    assert check_authorities(tmp_path / "root.ca.pem", datetime.now(UTC)).problems == ()


def test_one_that_only_has_the_name_is_not_taken(tmp_path: Path) -> None:
    store = tmp_path / "store.pem"
    store.write_bytes(make_certificate(elliptic_key(), "Amazon Root CA 1", authority=True) + b"-----BEGIN CERTI")
    with pytest.raises(StopError, match="Amazon Root CA 1") as error:
        amazon_roots([store, tmp_path / "absent.pem"])
    assert "--ca" in str(error.value)
    assert str(store) in str(error.value)


def test_the_others_may_be_missing_and_several_stores_are_looked_through(tmp_path: Path) -> None:
    blocks = amazon_roots().pem.split(b"-----END CERTIFICATE-----\n")[:-1]
    first, second = tmp_path / "first.pem", tmp_path / "second.pem"
    first.write_bytes(blocks[2] + b"-----END CERTIFICATE-----\n")
    one_line = base64.b64encode(base64.b64decode(blocks[0].partition(b"-----\n")[2]))
    second.write_bytes(b"text\n-----BEGIN CERTIFICATE-----\r\n" + one_line + b"\r\n-----END CERTIFICATE-----")
    assert amazon_roots([first, second]).names == ("Amazon Root CA 1", "Amazon Root CA 3")
    assert ROOTS[NEEDED] == "Amazon Root CA 1"
