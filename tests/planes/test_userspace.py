"""The userspace plane is checked for all that it claims, with real packets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from blixt_backend.testing.lab import Lab
from blixt_backend.testing.suite import PlaneSuite

pytestmark = pytest.mark.lab


class TestUserspace(PlaneSuite):
    plane = "userspace"
    addresses_on_node = True

    @classmethod
    def options(cls, lab: Lab) -> Sequence[str]:
        return ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48", "--stop-grace", "0"]
