"""Kubernetes objects to model items: pure functions, without I/O and without a clock.

addresses   which strings are addresses, and of which family
topology    which node sends new connections to which endpoint
endpoints   endpoint slices to endpoints, one for each pod as far as its slices agree
services    one Service to its items
grants, listeners, routes   the rules of the Gateway API, one by one
results     what they found, as it will stand in status
gateways    one Gateway to its result
gateway_items   a Gateway's result to its items
wire        items' bytes
cluster, index   the objects as translation looks them up, and what each of their changes touches
"""
