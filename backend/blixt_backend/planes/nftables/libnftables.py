"""libnftables, the system's shared library, through ctypes: one context, commands in, replies out.

It takes commands as JSON (libnftables-json(5)) or as text (nft(8)); each call is one transaction, which the
kernel does whole or not at all. Calls block, and give other Python threads way meanwhile.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

#: One command, or one reply, in the words of libnftables-json(5).
Command = Mapping[str, Any]

_SONAME: Final = "libnftables.so.1"
# NFT_CTX_OUTPUT_JSON, and NFT_CTX_OUTPUT_NUMERIC_PROTO: a protocol's name is looked up in a file, each time.
_OUTPUT: Final = 1 << 4 | 1 << 7
_PLACE = re.compile(r"^\S*:\d+:\d+-\d+: ")
_MOST_ERROR_LETTERS = 300


class LibraryMissingError(Exception):
    """The shared library isn't here; says what to install."""


class NftError(Exception):
    """What nftables says of a transaction that was not done."""


class Nftables:
    """A context. For one thread at a time; it speaks to the network namespace it was made in."""

    def __init__(self) -> None:
        """Raises LibraryMissingError."""
        self._library = _load()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise NftError("libnftables can't open a netlink socket")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_output_set_flags(self._context, _OUTPUT)

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def run(self, commands: Sequence[Command]) -> list[Command]:
        """One transaction of commands, or one list command; its replies. Raises NftError."""
        output = self._run(json.dumps({"nftables": commands}).encode())
        return json.loads(output)["nftables"] if output else []

    def run_json(self, commands: Sequence[str]) -> None:
        """One transaction of commands that are JSON already. Raises NftError."""
        self._run(f'{{"nftables":[{",".join(commands)}]}}'.encode())

    def run_text(self, commands: str) -> None:
        """One transaction in nft's own language. Raises NftError."""
        self._run(commands.encode())

    def _run(self, commands: bytes) -> bytes:
        assert self._context, "the context is closed"
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands)
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        errors: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if failed:
            raise NftError(_first_line(errors.decode(errors="replace")))
        return output


def _first_line(text: str) -> str:
    """What went wrong, without the place in a text that nobody has seen."""
    lines = [_PLACE.sub("", line).removeprefix("Error: ") for line in text.splitlines() if line.strip()]
    return (lines or ["nftables gives no reason"])[0][:_MOST_ERROR_LETTERS]


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_SONAME)
    except OSError as error:
        raise LibraryMissingError(
            f"{_SONAME} can't be loaded ({error}): install libnftables (Debian: libnftables1)"
        ) from error
    context, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("nft_ctx_new", context, [ctypes.c_uint32]),
        ("nft_ctx_free", None, [context]),
        ("nft_ctx_buffer_output", ctypes.c_int, [context]),
        ("nft_ctx_buffer_error", ctypes.c_int, [context]),
        ("nft_ctx_output_set_flags", None, [context, ctypes.c_uint]),
        ("nft_ctx_get_output_buffer", text, [context]),
        ("nft_ctx_get_error_buffer", text, [context]),
        ("nft_run_cmd_from_buffer", ctypes.c_int, [context, text]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
