"""A server that says who it is and whom it sees, and a client that asks it.

The protocol is one line each way. A client sends any text without spaces; the server answers `<server's name>
<client's address> <client's port> <the text>`, over TCP as often as asked, over UDP in one datagram.
"""

from blixt_backend.testing.traffic import sctp
from blixt_backend.testing.traffic.server import serve
from blixt_backend.testing.traffic.talk import Answer, Conversation, TalkError, Target, ask, converse

__all__ = ["Answer", "Conversation", "TalkError", "Target", "ask", "converse", "sctp", "serve"]
