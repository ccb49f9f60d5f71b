"""A cluster's API server as a source.

access -> client -> reflector (list and watch of one kind, into its mirror) -> following (all kinds) -> source
"""

from blixt_frontend.kubernetes.access import AccessError, InCluster, Kubeconfig
from blixt_frontend.kubernetes.client import ApiClient, ApiError
from blixt_frontend.kubernetes.source import KubernetesSource

__all__ = ["AccessError", "ApiClient", "ApiError", "InCluster", "Kubeconfig", "KubernetesSource"]
