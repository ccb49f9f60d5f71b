"""Benchmarks, which need root.

`make bench` runs all of the dataplane's: `PYTHONPATH=tests python -m bench --help`.
"""
