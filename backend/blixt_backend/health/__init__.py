"""What load balancers and probes ask a node: health check node ports of Services, and the node's own health.

`checks` (whose endpoints are here), `judgement` (does this node follow its frontend), `http` (requests and
answers as bytes), `answers` and `places` are pure. `connections` and `listeners` have the sockets, `running`
ties all of it together in the event loop.
"""
