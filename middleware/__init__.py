"""What a request passes on its way to a route: ASGI middleware, and the dependencies that judge
its token and read its body.
"""
# [Task]: T021, T070 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md
