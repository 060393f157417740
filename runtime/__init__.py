"""The process of the service: its start, its stop and the connections of its server."""
# [Task]: T052, T092 [From]: specs/database/schema.md, specs/reliability.md
