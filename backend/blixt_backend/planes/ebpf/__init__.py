"""The eBPF plane: service rows in pinned maps, programs on XDP and TC hooks as pinned links."""
