"""Which of the Gateway API's kinds an API server serves, and in which version.

Asked for through the API's own discovery, which every authenticated client may read (ClusterRole
system:discovery); watching the CustomResourceDefinitions instead would need a right of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from blixt_frontend.kubernetes.client import ApiClient, ApiError
from blixt_frontend.kubernetes.kinds import GATEWAY, Kind
from blixt_frontend.objects.gateway import GATEWAY_GROUP

T = TypeVar("T")


class _Version(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    """metav1.APIGroup"""

    versions: list[_Version]


class _Resource(msgspec.Struct):
    name: str


class _Resources(msgspec.Struct):
    """metav1.APIResourceList"""

    resources: list[_Resource]


async def served_kinds(client: ApiClient) -> Mapping[Kind, str]:
    """The best version of each kind that is served at all. Raises ApiError where it can't be said."""
    group = await _get(client, f"/apis/{GATEWAY_GROUP}", _Group)
    served = {version.version for version in group.versions} if group else set()
    known = {version for kind in GATEWAY for version in kind.versions}
    plurals = {}
    for version in sorted(served & known):
        resources = await _get(client, f"/apis/{GATEWAY_GROUP}/{version}", _Resources)
        plurals[version] = {resource.name for resource in resources.resources} if resources else set()
    best = {}
    for kind in GATEWAY:
        for version in kind.versions:
            if kind.plural in plurals.get(version, ()):
                best[kind] = version
                break
    return best


async def _get(client: ApiClient, path: str, answer: type[T]) -> T | None:
    """None: there is no such thing."""
    try:
        return msgspec.json.decode(await client.request("GET", path), type=answer)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(0, "Unreachable", f"GET {path}: no API server's answer: {error}") from error
