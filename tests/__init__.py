# [Task]: T079 [From]: specs/api/rest-endpoints.md
