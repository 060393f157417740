"""The endpoints."""
# [Task]: T001, T060 [From]: specs/features/task-crud.md, specs/api/rest-endpoints.md
