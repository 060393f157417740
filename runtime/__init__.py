"""The process around the service: its start, its stop, its server's connections."""
# [Task]: T052, T092 [From]: specs/database/schema.md, specs/reliability.md
