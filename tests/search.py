"""How long, and from where, the tests search that make up their requests themselves."""
# [Task]: T063 [From]: specs/api/rest-endpoints.md

import os

from hypothesis import HealthCheck, settings

# Of schemathesis for each operation, and of sequences of the state machine.
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "10"))
# The same requests in every run, unless another seed is asked for.
SEED = int(os.environ.get("TEST_SEED", "1"))

# A busy machine is no fault of what is tested.
SEARCH = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
