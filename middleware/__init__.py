"""ASGI middleware, one class in each file. From the outside in: `PlainStartupErrors`, `RedactSpans` (with
OpenTelemetry), `RequestLog`, `Normalize`, `Cors`, `RequireHTTPS` and `LimitRate` (if turned on), `AnswerErrors`.
"""
# [Task]: T070 [From]: specs/api/rest-endpoints.md
