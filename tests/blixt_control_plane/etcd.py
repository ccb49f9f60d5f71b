"""etcd's own API, through its JSON gateway: for faults that Kubernetes' API can't be asked for."""

from __future__ import annotations

from base64 import b64encode

from blixt_control_plane.api import Api

#: Outside the prefix that Kubernetes keeps its objects under.
_FOREIGN_KEY = b64encode(b"/blixt/tick").decode()


class Etcd:
    def __init__(self, api: Api) -> None:
        self._api = api

    def revision(self) -> int:
        """The newest revision, which is a resource version in Kubernetes."""
        return int(self._api.post("/v3/maintenance/status", {})["header"]["revision"])

    def tick(self) -> int:
        """Make a new revision without touching any object of Kubernetes; that revision."""
        return int(self._api.post("/v3/kv/put", {"key": _FOREIGN_KEY, "value": ""})["header"]["revision"])

    def compact(self) -> int:
        """Forget all history before the newest revision, which is returned.

        A running API server still serves from its own memory what it has seen; see
        `ControlPlane.expire_resource_versions`.
        """
        revision = self.revision()
        self._api.post("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision
