"""`blixt-backend trace`: packets that the kernel drops, with its reasons, beside our own counters. On bcc.

`btf`, `places` and `events` are pure; `compiler` has bcc, `command` the rest.
"""
