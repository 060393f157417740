# [Task]: T093, T094, T095 [From]: specs/reliability.md
