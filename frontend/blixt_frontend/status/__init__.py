"""Status of GatewayClasses, Gateways, TCPRoutes and UDPRoutes, as the Gateway API specifies it.

HTTPRoutes and TLSRoutes are counted, and their status is left to whoever carries them.

bundle, wanted, merging    pure: what a status should say, and how it is brought into what is there
programming                whether nodes have applied what a Gateway asks for
board                      what every object's status should say now
election                   one writer among many frontends
peers                      what the other frontends' nodes have applied
api, leases, objects, queue, writer   reading, writing, trying again
reporter                   all of it together
"""

from blixt_frontend.status.election import Elector, LeaseConfig, LostLeaseError, Term, own_identity
from blixt_frontend.status.peers import PeerConfig
from blixt_frontend.status.reporter import StatusReporter
from blixt_frontend.status.wanted import FEATURES, FEATURES_WITH_POOLS
from blixt_frontend.status.writer import WriterConfig

__all__ = [
    "FEATURES",
    "FEATURES_WITH_POOLS",
    "Elector",
    "LeaseConfig",
    "LostLeaseError",
    "PeerConfig",
    "StatusReporter",
    "Term",
    "WriterConfig",
    "own_identity",
]
