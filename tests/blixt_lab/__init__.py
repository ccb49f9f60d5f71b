"""A lab of network namespaces on one machine: hosts, traffic between them, and the daemons that serve it."""

from blixt_lab.cluster import Checksums, Cluster, cluster
from blixt_lab.host import Host
from blixt_lab.lab import Lab, open_lab
from blixt_lab.wait import WaitTimeoutError, wait_for

__all__ = ["Checksums", "Cluster", "Host", "Lab", "WaitTimeoutError", "cluster", "open_lab", "wait_for"]
