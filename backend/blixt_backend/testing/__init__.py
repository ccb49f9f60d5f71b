"""The public test kit: one contract, which every plane is checked against with real packets.

`suite.PlaneSuite` runs it by pytest; CHECKS and Kit are there for any other way. `contract` has the checks
that need no packets and no privilege. docs/planes.md tells how to use both.
"""
