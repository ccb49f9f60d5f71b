"""Secrets: what is told of them, and that nothing of their content is kept or shown."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from blixt_frontend.decode import DecodeError, decode, decode_json
from blixt_frontend.manifests.parsing import parse
from blixt_frontend.objects import ObjectMeta, Secret
from blixt_frontend.objects.pem import certificate_flaw, key_flaw
from blixt_objects import key_pair, tls_secret

CERTIFICATE, KEY = (text.decode() for text in key_pair())
HELLO = "SGVsbG8gd29ybGQK"


def in_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


GOOD = {"tls.crt": in_base64(CERTIFICATE), "tls.key": in_base64(KEY)}


def manifest(**fields: Any) -> dict[str, Any]:
    base = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cert", "namespace": "default"},
        "type": "kubernetes.io/tls",
    }
    return {**base, **fields}


def read(**fields: Any) -> Secret:
    decoded = decode(manifest(**fields))
    assert isinstance(decoded, Secret)
    return decoded


def test_a_good_one() -> None:
    assert read(data=GOOD).flaw == ""
    assert read(data=GOOD) == tls_secret()
    assert read(stringData={"tls.crt": CERTIFICATE, "tls.key": KEY}).flaw == ""


def test_string_data_counts_before_data() -> None:
    assert read(data=GOOD, stringData={"tls.key": "Hello world"}).flaw == "tls.key is no private key in PEM"


NO_CERTIFICATE, NO_KEY = "tls.crt is no certificate in PEM", "tls.key is no private key in PEM"


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        ({}, "tls.crt is not there; tls.key is not there"),
        ({"tls.crt": GOOD["tls.crt"]}, "tls.key is not there"),
        ({"tls.crt": HELLO, "tls.key": HELLO}, f"{NO_CERTIFICATE}; {NO_KEY}"),
        ({"tls.crt": GOOD["tls.key"], "tls.key": GOOD["tls.crt"]}, f"{NO_CERTIFICATE}; {NO_KEY}"),
        (GOOD | {"tls.crt": ""}, NO_CERTIFICATE),
        (GOOD | {"tls.crt": "%"}, "tls.crt is no PEM in base64"),
        (GOOD | {"tls.crt": in_base64("é")}, "tls.crt is no PEM in base64"),
        (GOOD | {"tls.crt": in_base64(CERTIFICATE[:200])}, NO_CERTIFICATE),
        (GOOD | {"tls.key": in_base64(KEY[:60])}, NO_KEY),
    ],
    ids=["empty", "no key", "malformed", "swapped", "no text", "no base64", "no ASCII", "cut", "cut key"],
)
def test_flaws(data: Mapping[str, str], flaw: str) -> None:
    assert read(data=data).flaw == flaw


def test_of_another_type_nothing_is_looked_at() -> None:
    assert read(type="Opaque", data={"password": "x"}).flaw == "is not of type kubernetes.io/tls"


def test_several_certificates_are_one_chain() -> None:
    assert certificate_flaw(CERTIFICATE + CERTIFICATE) == ""


def armoured(label: str, body: str) -> str:
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


ENCRYPTED = "is encrypted, and there is no password for it"
BAD = "is no private key in PEM"
LONG = bytes([0x30, 0x82, 0x01, 0x00]) + bytes(256)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (armoured("PRIVATE KEY", b64encode(bytes([0x30, 1, 0])).decode()), ""),
        (armoured("RSA PRIVATE KEY", b64encode(LONG).decode()), ""),
        (armoured("EC PARAMETERS", "Bg==") + armoured("EC PRIVATE KEY", "MAEA"), ""),
        (armoured("PRIVATE KEY", "MAEA").replace("\n", "\r\n"), ""),
        (armoured("ENCRYPTED PRIVATE KEY", "MAEA"), ENCRYPTED),
        (armoured("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nMAEA"), ENCRYPTED),
        (armoured("PRIVATE KEY", b64encode(LONG[:-1]).decode()), BAD),
        (armoured("PRIVATE KEY", b64encode(LONG + b"x").decode()), BAD),
        (armoured("PRIVATE KEY", "BAEA"), BAD),
        (armoured("PRIVATE KEY", ""), BAD),
        (armoured("PRIVATE KEY", "M"), BAD),
        (armoured("PRIVATE KEY", "é"), BAD),
        (armoured("PUBLIC KEY", "MAEA"), BAD),
        ("", BAD),
    ],
)
def test_keys(text: str, flaw: str) -> None:
    assert key_flaw(text) == flaw


def test_nothing_of_it_is_kept() -> None:
    """Not in an annotation either, where kubectl puts the whole object."""
    copy = {"kubectl.kubernetes.io/last-applied-configuration": str(GOOD)}
    made = read(data=GOOD, metadata={"name": "cert", "namespace": "default", "annotations": copy})
    assert (made.data, made.string_data) == ({}, {})
    assert made.metadata == ObjectMeta(name="cert", namespace="default")
    for shown in (repr(made), msgspec.json.encode(made).decode()):
        assert not any(part[:40] in shown for part in (*GOOD.values(), CERTIFICATE, KEY))


def test_in_a_manifest() -> None:
    text = yaml.safe_dump_all(
        [
            manifest(data=GOOD),
            manifest(stringData={"tls.crt": CERTIFICATE, "tls.key": KEY}, metadata={"name": "plain"}),
            manifest(type="Opaque", data={"password": "eA=="}, metadata={"name": "other"}),
        ]
    )
    found = parse(text.encode(), {}).objects
    assert {key.name: isinstance(one, Secret) and one.flaw for key, one in found.items()} == {
        "cert": "",
        "plain": "",
        "other": "is not of type kubernetes.io/tls",
    }


def test_a_copy_knows_what_the_original_knew() -> None:
    moved = replace(read(data=GOOD), metadata=ObjectMeta(name="cert", namespace="other"))
    assert moved.flaw == ""
    assert moved.key.namespace == "other"


def from_server(value: dict[str, Any]) -> Secret:
    return decode_json(msgspec.json.encode(value), Secret)


@pytest.mark.parametrize("data", ["hush-hush", {"tls.key": 99887766}, ["hush-hush"]])
@pytest.mark.parametrize("attempt", [decode, from_server])
def test_complaints_show_nothing_of_it(attempt: Callable[[dict[str, Any]], object], data: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        attempt(manifest(data=data))
    assert str(caught.value).startswith("data")
    assert "hush" not in str(caught.value)
    assert "99887766" not in str(caught.value)
