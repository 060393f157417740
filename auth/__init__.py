"""Whose tasks a request may touch: the token, the keys that verify it, the user in the path."""
# [Task]: T020, T022, T025 [From]: specs/features/authentication.md
