"""GatewayClasses: which are accepted."""

from __future__ import annotations

from blixt_frontend.objects import GatewayClass
from blixt_frontend.translation.results import Condition


def accepted(gateway_class: GatewayClass) -> Condition:
    """The Accepted condition of a class of ours."""
    parameters = gateway_class.spec.parameters_ref
    if parameters is None:
        return Condition("Accepted", True, "Accepted")
    message = f"parameters of kind {parameters.group}/{parameters.kind} are not supported"
    return Condition("Accepted", False, "InvalidParameters", message)
