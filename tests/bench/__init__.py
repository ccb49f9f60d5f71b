"""Benchmarks, which need root. `make bench` runs all; one: `PYTHONPATH=tests python -m bench.dataplane`."""
