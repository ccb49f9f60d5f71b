"""The checks as a pytest class, for a plane of your own:

    from blixt_backend.testing.suite import PlaneSuite

    class TestMine(PlaneSuite):
        plane = "mine"

        @classmethod
        def options(cls, lab):
            return ["--my-interface", lab.uplink]

It needs root and Linux, and no network: everything happens in network namespaces that are gone afterwards.
What the plane doesn't claim is skipped, and said to be not claimed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import pytest

from blixt_backend.planes import registry
from blixt_backend.testing.checks import CHECKS
from blixt_backend.testing.kit import Check, Kit
from blixt_backend.testing.lab import Lab, lab
from blixt_backend.testing.services import ADDRESSES

#: What a test's report has the plane's name under.
PLANE_PROPERTY = "blixt plane"


class PlaneSuite:
    """Subclass it, and say which plane."""

    #: Its name among the entry points.
    plane: ClassVar[str]
    #: Whether it answers only on addresses that the node itself has, as proxies do.
    addresses_on_node: ClassVar[bool] = False

    @classmethod
    def options(cls, lab: Lab) -> Sequence[str]:
        """The plane's command-line options on the node of this lab.

        It may keep things in the lab's folder, and put on the lab's stack what must be undone at the end.
        """
        return ()

    @pytest.fixture(scope="class")
    @classmethod
    def kit(cls, request: pytest.FixtureRequest) -> Iterator[Kit]:
        """A lab with the plane on its node."""
        if os.geteuid() != 0:
            pytest.skip("needs root, to make network namespaces")
        with lab() as built:
            if cls.addresses_on_node:
                built.node.ip(*(f"addr add {address} dev lo" for pair in ADDRESSES for address in pair))
            capabilities = registry.load(cls.plane).capabilities
            kit = Kit(built, cls.plane, cls.options(built), capabilities)
            try:
                yield kit
            finally:
                asyncio.run(kit.cleanup())

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_contract(self, kit: Kit, check: Check, record_property: Callable[[str, object], None]) -> None:
        record_property(PLANE_PROPERTY, self.plane)
        if missing := check.not_claimed(kit.capabilities):
            pytest.skip(f"not claimed: {', '.join(each.key for each in missing)}")

        async def checked() -> None:
            await kit.begin()
            await check.run(kit)

        asyncio.run(checked())
