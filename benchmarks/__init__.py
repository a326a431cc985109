"""How fast, beside whom: `python -m benchmarks --help`, or `make bench`."""
