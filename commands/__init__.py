"""Commands for operators: `python -m commands.NAME`."""
# [Task]: T179, T180 [From]: specs/features/hosting.md, specs/features/moving.md
