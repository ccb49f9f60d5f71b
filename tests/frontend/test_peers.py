"""Which nodes a client's certificate allows."""

import pytest

from blixt_frontend.peers import allowed_nodes, may_watch

PEM = {"x509_pem_cert": [b"-----BEGIN CERTIFICATE-----"]}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, None),
        ({"transport_security_type": [b"ssl"], "x509_pem_cert": []}, None),
        (PEM, set()),
        (PEM | {"x509_common_name": [b""]}, set()),
        (PEM | {"x509_common_name": [b"n1"]}, {"n1"}),
        (
            PEM | {"x509_common_name": [b"system:node:n1"], "peer_dns": [b"n2", b"system:node:n3"]},
            {"n1", "n2", "n3"},
        ),
        (PEM | {"x509_common_name": [b"system:node:"]}, set()),
        (PEM | {"x509_common_name": [b"\xff"]}, {"\N{REPLACEMENT CHARACTER}"}),
        (PEM | {"x509_subject_alternative_name": [b"192.0.2.1"], "peer_ip": [b"192.0.2.1"]}, set()),
    ],
)
def test_allowed_nodes(context: dict[str, list[bytes]], expected: set[str] | None) -> None:
    assert allowed_nodes(context) == expected


@pytest.mark.parametrize(
    ("node", "allowed", "expected"),
    [
        ("n1", None, True),
        ("n1", frozenset({"n1", "n2"}), True),
        ("n1", frozenset({"n11"}), False),
        ("n1", frozenset(), False),
        ("system:node:n1", frozenset({"n1"}), False),
    ],
)
def test_may_watch(node: str, allowed: frozenset[str] | None, expected: bool) -> None:
    assert may_watch(node, allowed) is expected
