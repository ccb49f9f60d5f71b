"""Traffic tools: the public kit's server and client, and clients that count what they were told."""

from blixt_backend.testing.traffic import Answer, TalkError, Target, ask, converse, serve
from blixt_lab.traffic.hammer import Hammered, hammer
from blixt_lab.traffic.hold import Held, Loss, hold
from blixt_lab.traffic.spread import Spread, spread

__all__ = [
    "Answer",
    "Hammered",
    "Held",
    "Loss",
    "Spread",
    "TalkError",
    "Target",
    "ask",
    "converse",
    "hammer",
    "hold",
    "serve",
    "spread",
]
