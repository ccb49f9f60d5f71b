"""Traffic tools: a server that says who it is and whom it sees, and clients that count what they were told.

The protocol is one line each way. A client sends any text without spaces; the server answers `<server's name>
<client's address> <client's port> <the text>`, over TCP as often as asked, over UDP in one datagram.
"""

from blixt_lab.traffic.hammer import Hammered, hammer
from blixt_lab.traffic.hold import Held, Loss, hold
from blixt_lab.traffic.server import serve
from blixt_lab.traffic.spread import Spread, spread
from blixt_lab.traffic.talk import Answer, TalkError, Target, ask

__all__ = [
    "Answer",
    "Hammered",
    "Held",
    "Loss",
    "Spread",
    "TalkError",
    "Target",
    "ask",
    "hammer",
    "hold",
    "serve",
    "spread",
]
