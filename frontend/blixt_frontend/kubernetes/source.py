"""The source behind `--kubeconfig` and `--in-cluster`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from blixt_frontend.kubernetes.client import ApiClient
from blixt_frontend.kubernetes.following import Following, Observer
from blixt_frontend.kubernetes.pace import Pace
from blixt_frontend.source import Batch, Source


class KubernetesSource(Source):
    """The objects of a cluster, as its API server knows them.

    - While the server is away, what was known stays. One kind's failure does not touch the others.
    - The Gateway API's CRDs may come later, go, or change version.
    - Nothing is complete before every kind that is served, and that traffic hangs on, was listed once. One
      that may not be listed (403) is complained about and waited for: taking a part for the whole would take
      the rest from every node. Kinds that only status needs (Secrets, HTTPRoutes) hold nothing up; batches
      say which of them are unread.
    """

    def __init__(self, client: ApiClient, pace: Pace | None = None) -> None:
        self._client = client
        self._pace = pace or Pace()
        #: Whoever wants to know more than batches tell.
        self.observer: Observer | None = None

    async def events(self) -> AsyncIterator[Batch]:
        """Batches come as kinds are listed; the first complete one may be empty. Needs an open client."""
        following = Following(self._client, self._pace, lambda: self.observer)
        running = asyncio.create_task(following.run())
        running.add_done_callback(lambda _: following.news.set())
        complete = False
        unread: dict[str, str] | None = None
        try:
            while True:
                await following.news.wait()
                if running.done():
                    running.result()
                await asyncio.sleep(self._pace.settle)
                following.news.clear()
                complete = complete or following.all_listed
                batch = following.gathering.take(complete)
                now_unread = dict(following.unread) if complete else None
                if batch.upserts or batch.deletions or now_unread != unread:
                    unread = now_unread
                    yield replace(batch, unread=unread)
        finally:
            running.cancel()
            await asyncio.wait({running})
