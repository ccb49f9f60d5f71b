"""Addresses for Gateways and for Services of type LoadBalancer, out of pools that an operator names.

`AddressBook` says who has which; `service_status` brings it into the Services' status.
"""

from blixt_frontend.addresses.allocation import Allocator, allocate
from blixt_frontend.addresses.book import AddressBook, LoadBalancerWrite
from blixt_frontend.addresses.pools import Pool, Pools, parse_pool
from blixt_frontend.addresses.requests import (
    ADDRESSES_ANNOTATION,
    LOAD_BALANCER_CLASS,
    POOL_ANNOTATION,
    Request,
    Wish,
)
from blixt_frontend.translation.addresses import Assignment

__all__ = [
    "ADDRESSES_ANNOTATION",
    "LOAD_BALANCER_CLASS",
    "POOL_ANNOTATION",
    "AddressBook",
    "Allocator",
    "Assignment",
    "LoadBalancerWrite",
    "Pool",
    "Pools",
    "Request",
    "Wish",
    "allocate",
    "parse_pool",
]
