"""The nftables plane is checked for all that it claims, with real packets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from blixt_backend.testing.lab import Lab
from blixt_backend.testing.suite import PlaneSuite

pytestmark = pytest.mark.lab


class TestNftables(PlaneSuite):
    plane = "nftables"

    @classmethod
    def options(cls, lab: Lab) -> Sequence[str]:
        return ["--interface", lab.uplink]
