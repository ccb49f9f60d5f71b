"""A real Kubernetes control plane for tests: etcd, API server with RBAC, controllers, kubectl."""

from blixt_control_plane.api import Api, ApiError
from blixt_control_plane.audit import Write, user_name
from blixt_control_plane.component import Component, ComponentError
from blixt_control_plane.control_plane import ControlPlane, KubectlError, control_plane
from blixt_control_plane.place import Place
from blixt_control_plane.programs import OLDER, STANDARD, Bundle, MissingError

__all__ = [
    "OLDER",
    "STANDARD",
    "Api",
    "ApiError",
    "Bundle",
    "Component",
    "ComponentError",
    "ControlPlane",
    "KubectlError",
    "MissingError",
    "Place",
    "Write",
    "control_plane",
    "user_name",
]
