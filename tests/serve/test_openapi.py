"""The OpenAPI page: what schemathesis sends after it is answered as it says, and never by 500."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from served import Client, Serving

schemathesis = pytest.importorskip("schemathesis")

OPERATIONS = (
    "POST /v1/embeddings", "POST /v1/audio/embeddings", "POST /v1/search", "POST /v1/classify",
    "GET /v1/models", "GET /v1/collection", "GET /v1/map", "GET /v1/clips/{key}/audio",
    "GET /health", "GET /ready", "GET /metrics", "GET /openapi.json",
)  # fmt: skip
QUICK = settings(
    max_examples=20, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck), database=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def api(server: Serving) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.client.port}/openapi.json")


def _answered(api: Any, operation: str, how: settings) -> int:
    """How many requests of this operation were sent, good and bad, and answered as promised."""
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    method, path = operation.split()
    found, sent = api[path][method], 0

    def send(case: Any) -> None:
        nonlocal sent
        # Texts without words, sums that cancel and sounds that are none fit their schema, too.
        case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=30)
        sent += 1

    for mode in schemathesis.GenerationMode:
        cases = found.as_strategy(generation_mode=mode)
        how(given(case=cases)(send))()
    return sent


@pytest.mark.parametrize("operation", OPERATIONS[:4])
def test_what_it_posts_is_answered_as_promised(api: Any, operation: str) -> None:
    assert _answered(api, operation, QUICK) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_campaign(api: Any, operation: str) -> None:
    assert _answered(api, operation, settings(QUICK, max_examples=1000)) >= 1


def test_every_operation_is_on_the_page(client: Client) -> None:
    page = client.get("/openapi.json").json
    assert page["openapi"].startswith("3.1")
    known = {
        f"{method.upper()} {path}": operation
        for path, operations in page["paths"].items()
        for method, operation in operations.items()
    }
    assert set(known) == set(OPERATIONS)
    for operation in known.values():
        assert operation["operationId"]
        assert "200" in operation["responses"]
