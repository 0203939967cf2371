"""The one package that knows both protobuf and the domain's types.

Towards the domain it checks what only the wire can get wrong: enum numbers nobody knows, and presence. Ranges are the
pipeline's to judge, so that callers inside the process are held to the same rules.
"""

from atelier_server.frontend.converters.brand import brand
from atelier_server.frontend.converters.events import generate_response, scores
from atelier_server.frontend.converters.requests import generate_request, score_request
from atelier_server.frontend.converters.state import health_response, metrics_response, model_info

__all__ = [
    "brand",
    "generate_request",
    "generate_response",
    "health_response",
    "metrics_response",
    "model_info",
    "score_request",
    "scores",
]
