"""Real weights for the slow tests that need them."""

import pytest

from sdtp_lib.errors import Failed
from sdtp_lib.models.fetching import fetch

NAME = "smollm2-135m"


def fetched():
    """The name of the model, which is in the cache from now on; the test is skipped where it cannot be fetched."""
    try:
        fetch(NAME)
    except Failed as error:
        pytest.skip(f"NOT TESTED ON REAL WEIGHTS: `sdtp fetch {NAME}` says: {error}")
    return NAME
