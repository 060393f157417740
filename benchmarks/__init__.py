"""What the service costs, next to two others that do the same: `python -m benchmarks`."""
# [Task]: T083 [From]: specs/performance.md
