"""`blixt-frontend`, with a fifteenth of its patience for API servers that say nothing.

The shipped one gives a watch up after 90 silent seconds, and any other request after 60: nothing that a test
should wait for.
"""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

from blixt_frontend import cluster
from blixt_frontend.cli import main
from blixt_frontend.kubernetes import ApiClient, source
from blixt_frontend.kubernetes.pace import Pace

if __name__ == "__main__":
    with (
        patch.object(source, "Pace", partial(Pace, silence=6.0)),
        patch.object(cluster, "ApiClient", partial(ApiClient, request_seconds=4.0)),
    ):
        main(prog_name="blixt-frontend")
