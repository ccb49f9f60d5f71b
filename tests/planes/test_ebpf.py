"""The eBPF plane is checked for all that it claims, with real packets."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from blixt_backend.testing.lab import Lab
from blixt_backend.testing.suite import PlaneSuite

pytestmark = pytest.mark.lab


class TestEbpf(PlaneSuite):
    plane = "ebpf"

    @classmethod
    def options(cls, lab: Lab) -> Sequence[str]:
        pins = lab.folder / "bpf"
        pins.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", pins], check=True, timeout=10)
        lab.stack.callback(lambda: subprocess.run(["umount", "--lazy", pins], check=True, timeout=10))
        devices = ("--interface", lab.uplink, "--pod-interface", lab.pod_devices)
        return [*devices, "--pin-root", str(pins / "blixt")]
