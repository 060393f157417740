"""The two databases, Postgres and SQLite: their URLs, their connections and their faults."""
# [Task]: T044, T050 [From]: specs/database/schema.md
