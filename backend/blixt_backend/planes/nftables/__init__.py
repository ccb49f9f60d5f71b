"""Service load balancing by nftables and the kernel's connection tracking, as kube-proxy does it."""
