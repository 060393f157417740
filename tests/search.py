# [Task]: T063 [From]: specs/api/rest-endpoints.md
"""How long, and from where, the tests search that make up their requests themselves."""

import os
from typing import Final

# Of schemathesis for each operation, and of sequences of the state machine.
EXAMPLES: Final = int(os.environ.get("TEST_EXAMPLES", "10"))
# The same requests in every run, unless another seed is asked for.
SEED: Final = int(os.environ.get("TEST_SEED", "1"))
