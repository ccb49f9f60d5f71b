"""One writer at a time, whatever happens to requests, processes and the lease."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import pytest

from blixt_fake_api import FakeApi, Json
from blixt_fakes.until import until
from blixt_frontend.kubernetes.client import ApiError
from blixt_frontend.status import Elector, LeaseConfig, LostLeaseError, Term, own_identity

PATH = "/apis/coordination.k8s.io/v1/namespaces/blixt-system/leases/blixt-frontend"


@dataclass
class Candidate:
    """A frontend that campaigns. Times are a hundredth of the real ones."""

    api: FakeApi
    name: str
    terms: list[Term] = field(default_factory=list)
    leads: bool = False
    error: Exception | None = None
    task: asyncio.Task[None] | None = None
    duration: int = 1

    async def lead(self, term: Term) -> None:
        self.terms.append(term)
        self.leads = True
        try:
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.leads = False

    async def __aenter__(self) -> Candidate:
        config = LeaseConfig(
            "blixt-system", self.name, duration=self.duration, renew_within=0.3, renew_every=0.02
        )
        self.task = asyncio.ensure_future(Elector(self.api, config).run(self.lead))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def spec(api: FakeApi) -> Json:
    found = api.objects[PATH]["spec"]
    assert isinstance(found, dict)
    return found


async def test_one_of_several_leads_and_renews(api: FakeApi) -> None:
    async with AsyncExitStack() as stack:
        candidates = [await stack.enter_async_context(Candidate(api, name)) for name in "abc"]
        await until(lambda: any(one.leads for one in candidates))
        (leader,) = [one for one in candidates if one.leads]
        deadline = leader.terms[0].deadline
        await until(lambda: leader.terms[0].deadline > deadline + 0.2)
        assert [one.leads for one in candidates].count(True) == 1
        assert spec(api)["holderIdentity"] == leader.name
        assert spec(api)["leaseTransitions"] == 1


async def test_who_ends_hands_over_at_once(api: FakeApi) -> None:
    async with Candidate(api, "b") as later, Candidate(api, "a") as first:
        await until(lambda: first.leads or later.leads)
        leader, other = (first, later) if first.leads else (later, first)
        assert leader.task is not None
        leader.task.cancel()
        await until(lambda: other.leads)
        assert not leader.leads
        assert spec(api)["holderIdentity"] == other.name
        assert spec(api)["leaseTransitions"] == 2


async def test_who_dies_is_followed_when_the_lease_has_run_out(api: FakeApi) -> None:
    held = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2020-01-01T00:00:00.000000Z"}
    api.put(PATH, {"spec": held, "metadata": {"labels": {"theirs": "x"}}})
    began = asyncio.get_running_loop().time()
    async with Candidate(api, "b") as later:
        await until(lambda: later.leads)
        # By our own clock: the time that it says is of another machine's.
        assert asyncio.get_running_loop().time() - began >= 1
    assert api.objects[PATH]["metadata"]["labels"] == {"theirs": "x"}


async def test_a_lease_that_is_renewed_is_not_taken(api: FakeApi) -> None:
    held = {"holderIdentity": "alive", "leaseDurationSeconds": 1}
    async with Candidate(api, "b") as later:
        for count in range(25):
            api.put(PATH, {"spec": held | {"renewTime": f"2020-01-01T00:00:00.{count:06}Z"}})
            await asyncio.sleep(0.06)
            assert not later.leads
        await until(lambda: later.leads)


class TestLosing:
    @pytest.mark.parametrize("status", [0, 403, 500])
    async def test_who_cannot_renew_stops_before_anyone_else_may_begin(
        self, api: FakeApi, status: int
    ) -> None:
        async with Candidate(api, "a") as candidate:
            await until(lambda: candidate.leads)
            api.fault = lambda request: ApiError(status, "Odd", "no")
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: not candidate.leads)
            assert candidate.terms[0].deadline <= began + 0.3
            assert not candidate.terms[0].valid
            api.fault = lambda request: None
            await until(lambda: candidate.leads)  # and comes back by itself
            assert len(candidate.terms) == 2

    async def test_a_server_that_does_not_answer_ends_it_too(self, api: FakeApi) -> None:
        async with Candidate(api, "a") as candidate:
            await until(lambda: candidate.leads)
            api.gate = lambda request: asyncio.Event()
            await until(lambda: not candidate.leads)
            assert not candidate.terms[0].valid

    async def test_who_was_robbed_stops_at_once(self, api: FakeApi) -> None:
        async with Candidate(api, "a") as candidate:
            await until(lambda: candidate.leads)
            api.put(PATH, {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3600}})
            await until(lambda: not candidate.leads)
            assert not candidate.terms[0].valid
            assert spec(api)["holderIdentity"] == "thief"

    async def test_a_deleted_lease_is_made_anew(self, api: FakeApi) -> None:
        async with Candidate(api, "a") as candidate:
            await until(lambda: candidate.leads)
            del api.objects[PATH]
            await until(lambda: len(candidate.terms) == 2)
            assert not candidate.terms[0].valid

    async def test_an_answer_that_was_lost_costs_no_term(self, api: FakeApi) -> None:
        lost = iter([ApiError(0, "Unreachable", "reset")] * 3)
        async with Candidate(api, "a") as candidate:
            await until(lambda: candidate.leads)
            deadline = candidate.terms[0].deadline
            api.lost = lambda request: next(lost, None) if request.is_write else None
            await until(lambda: candidate.terms[0].deadline > deadline + 0.3)
            assert len(candidate.terms) == 1

    async def test_a_lost_answer_to_the_first_request_is_no_long_wait(self, api: FakeApi) -> None:
        lost = iter([ApiError(0, "Unreachable", "reset")])
        api.lost = lambda request: next(lost, None) if request.is_write else None
        async with Candidate(api, "a", duration=3600) as candidate:
            await until(lambda: candidate.leads)
            assert len([request for request in api.requests if request.is_write]) < 5

    async def test_what_fails_gives_the_lease_up_and_tries_again(self, api: FakeApi) -> None:
        async with Candidate(api, "a", error=RuntimeError("bug")) as candidate:
            await until(lambda: len(candidate.terms) == 2)
            candidate.error = None
            await until(lambda: candidate.leads)


async def test_failures_of_the_server_are_waited_out(api: FakeApi) -> None:
    failures = iter(
        [ApiError(0, "Unreachable", "no"), ApiError(500, "Odd", "no"), ApiError(403, "Forbidden", "no")]
    )
    api.fault = lambda request: next(failures, None)
    async with Candidate(api, "a") as candidate:
        await until(lambda: candidate.leads)


async def test_an_answer_that_is_none_is_a_failure(api: FakeApi) -> None:
    api.put(PATH, {"spec": {"leaseDurationSeconds": "odd"}})
    async with Candidate(api, "a") as candidate:
        await until(lambda: len(api.requests) > 3)
        assert not candidate.leads
        api.put(PATH, {"spec": {}})
        await until(lambda: candidate.leads)


async def test_times_are_as_kubernetes_writes_them(api: FakeApi) -> None:
    async with Candidate(api, "a") as candidate:
        await until(lambda: candidate.leads)
        for name in ("acquireTime", "renewTime"):
            assert len(spec(api)[name]) == len("2026-01-01T00:00:00.000000Z")
            assert spec(api)[name].endswith("Z")
    assert spec(api)["holderIdentity"] == ""


async def test_a_term_ends_by_itself() -> None:
    now = asyncio.get_running_loop().time()
    Term(now + 60).check()
    with pytest.raises(LostLeaseError):
        Term(now - 1).check()


@pytest.mark.parametrize(("within", "every", "duration"), [(15, 2, 15), (2, 2, 15), (10, 0, 15)])
def test_times_that_are_not_safe_are_refused(within: float, every: float, duration: int) -> None:
    with pytest.raises(ValueError, match="lease"):
        LeaseConfig("ns", "a", duration=duration, renew_within=within, renew_every=every)


def test_identities_differ() -> None:
    assert own_identity() != own_identity()
