"""ASGI middleware, one class in each file. From the outside in: `PlainStartupErrors`, `RedactSpans` (with
OpenTelemetry), `RequestLog`, `Normalize`, `Cors`, `AnswerErrors`.
"""
# [Task]: T070 [From]: specs/api/rest-endpoints.md
