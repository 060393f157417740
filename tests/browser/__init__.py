"""Tests in a real browser."""
# [Task]: T170, T171 [From]: specs/features/frontend.md
