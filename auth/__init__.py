"""Authentication and access: tokens, the keys that verify them, and the user in the path."""
# [Task]: T020, T022, T025 [From]: specs/features/authentication.md
