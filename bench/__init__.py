"""Benchmarks: each module runs the peer beside us in one run and prints both and the ratio. Never a test.

`make bench` runs all of them; `.venv/bin/python -m bench NAME ...` some.
"""
