"""Which release of the Gateway API a cluster has: the bundle-version annotation of its definitions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from blixt_frontend.translation.results import Condition

BUNDLE_VERSION_ANNOTATION = "gateway.networking.k8s.io/bundle-version"

#: The definitions of what is served here. Those of routes may be missing.
NAMES = tuple(
    f"{plural}.gateway.networking.k8s.io"
    for plural in ("gatewayclasses", "gateways", "tcproutes", "udproutes", "referencegrants")
)

#: Releases that this was made for, as (major, minor); others are served as well as can be.
_OLDEST, _NEWEST = (1, 2), (1, 6)
#: Before this one, features were plain strings.
_FEATURES_WITH_NAMES = (1, 2)

_VERSION = re.compile(r"v(\d+)\.(\d+)\.\d+(?:[-+].*)?\Z")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The version that each of the cluster's definitions says it is from; empty: it doesn't say."""

    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def condition(self) -> Condition:
        """GatewayClass' SupportedVersion: true if all are of releases that are supported."""
        if not self.versions:
            return Condition("SupportedVersion", False, "UnsupportedVersion", "no definitions were found")
        bad = {name: version for name, version in self.versions.items() if not _supported(version)}
        if not bad:
            return Condition("SupportedVersion", True, "SupportedVersion")
        listed = ", ".join(f"{name} is {version or 'of no known version'}" for name, version in bad.items())
        oldest, newest = (".".join(map(str, version)) for version in (_OLDEST, _NEWEST))
        message = f"{listed}; made for v{oldest} to v{newest}, others are served as well as can be"
        return Condition("SupportedVersion", False, "UnsupportedVersion", message)

    @property
    def features_have_names(self) -> bool:
        parsed = _parse(self.versions.get(NAMES[0], ""))
        return parsed is not None and parsed >= _FEATURES_WITH_NAMES


def _supported(version: str) -> bool:
    parsed = _parse(version)
    return parsed is not None and _OLDEST <= parsed <= _NEWEST


def _parse(version: str) -> tuple[int, int] | None:
    match = _VERSION.match(version)
    return (int(match[1]), int(match[2])) if match else None
