"""ASGI middleware alone, a class a file, from the outside to the inside: `RequestLog`, `Normalize`, `Cors`,
`AnswerErrors`; at a start `PlainStartupErrors`, and with OpenTelemetry `RedactSpans`.
"""
# [Task]: T070 [From]: specs/api/rest-endpoints.md
