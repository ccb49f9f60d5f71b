"""Answering for load balancer addresses on a segment: ARP and NDP, from one node of those that are there.

`frames`, `ndp`, `heartbeat` and `filters` are what goes over the wire; `claims`, `peers`, `election` and
`schedule` what is decided: all pure. `session`, `holdings` and `announcer` tie them together without any I/O:
frames and the time in, frames out. `segment` has the sockets, `interface` the kernel's word on an interface,
and `running` the event loop.
"""
