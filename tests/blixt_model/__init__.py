"""The packet path in plain Python: a second, independent reading of docs/packet-path.md.

`programs.process` takes the bytes of a packet, the tables and the circumstances, and returns what must become
of them. It changes nothing; `tables.Tables.apply` does. Nothing here is fast or shares code with the project:
what the programs under bpf/ do is compared with it, byte by byte.

| module | rules of the page |
|---|---|
| `parse` | 1 |
| `flows` | 2, 3 |
| `ports` | 2 (both entries), 3.9 |
| `translation` | 4 |
| `ways` | 5 |
| `answers` | 6 |
| `errors` | 7 |
| `programs` | hooks, 8 |

Beside it: `kernel` (the programs in this kernel, with `layout` for their maps), `network` (a namespace for
them to route in), `comparison` (both sides, step by step), `worlds`, `senders`, `steps` and `incidents`
(random tables, packets and what happens between them), `exploration`, and `scene` (a small world for packets
written by hand).
"""
