"""Kubeconfig files: with a certificate for an admin or a component, with a token for a ServiceAccount."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml

from blixt_control_plane.certificates import KeyPair


def write(path: Path, server: str, authority: Path, user: KeyPair | str) -> Path:
    """Write the file, which needs no other file. `user`: a certificate, or a token. Returns the path."""
    path.touch(mode=0o600)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "blixt",
                        "cluster": {"server": server, "certificate-authority-data": _data(authority)},
                    }
                ],
                "users": [{"name": path.stem, "user": _credentials(user)}],
                "contexts": [{"name": "blixt", "context": {"cluster": "blixt", "user": path.stem}}],
                "current-context": "blixt",
            }
        )
    )
    return path


def _credentials(user: KeyPair | str) -> dict[str, Any]:
    if isinstance(user, str):
        return {"token": user}
    return {"client-certificate-data": _data(user.cert), "client-key-data": _data(user.key)}


def _data(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()
