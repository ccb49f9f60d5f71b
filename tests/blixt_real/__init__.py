"""A whole cluster: a real control plane, and a lab's nodes and pods that carry traffic by what it says.

Pods are the lab's: network namespaces with a server. Their Pod objects are made in the API with the status
that a kubelet would write, so that the controllers make EndpointSlices of them by Services' selectors.
"""

from blixt_real.cluster import RealCluster, real_cluster
from blixt_real.figures import Clock, Figures
from blixt_real.growth import await_growth, grow, open_shop
from blixt_real.shop import Shop
from blixt_real.stream import Load, Stream, undisturbed

__all__ = [
    "Clock",
    "Figures",
    "Load",
    "RealCluster",
    "Shop",
    "Stream",
    "await_growth",
    "grow",
    "open_shop",
    "real_cluster",
    "undisturbed",
]
