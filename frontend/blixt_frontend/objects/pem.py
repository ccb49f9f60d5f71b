"""Whether texts are PEM (RFC 7468): certificates, private keys. What is said of one shows nothing of it."""

from __future__ import annotations

import base64
import binascii
import re
import ssl

_KEY = re.compile(
    r"-----BEGIN (?P<label>(?:[A-Z0-9]+ )?PRIVATE KEY)-----\r?\n(?P<body>.*?)-----END (?P=label)-----",
    re.DOTALL,
)
_SEQUENCE = 0x30


def certificate_flaw(text: str) -> str:
    """Why the text is not one certificate or more; empty: it is. OpenSSL reads them, in memory."""
    if not text.isascii():
        return "is no certificate in PEM"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return "is no certificate in PEM"
    return ""


def key_flaw(text: str) -> str:
    """Why the text is not a private key; empty: it is.

    Python's ssl reads keys from files only, where none must ever be. So the armour is checked here, and that
    it holds one DER sequence; not whether its numbers make a key, nor to which certificate it belongs.
    """
    found = _KEY.search(text)
    if found is None:
        return "is no private key in PEM"
    if found["label"].startswith("ENCRYPTED") or "Proc-Type:" in found["body"]:
        return "is encrypted, and there is no password for it"
    try:
        der = base64.b64decode("".join(found["body"].split()), validate=True)
    except (binascii.Error, ValueError):
        return "is no private key in PEM"
    return "" if _is_one_sequence(der) else "is no private key in PEM"


def _is_one_sequence(der: bytes) -> bool:
    """X.690: a tag, a length in one byte or in as many as its low bits say, and just so many bytes."""
    if len(der) < 2 or der[0] != _SEQUENCE:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    size = der[1] & 0x7F
    return len(der) == 2 + size + int.from_bytes(der[2 : 2 + size], "big")
