"""Pictures that the service answers with an address, and the double's own word: the official client."""

import base64

import openai
import pytest

from atelier_server.backends.base import JobImage
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.testing.openai_server import OpenAIServer, Reply, encoded, file, picture_url, refusal
from tests.integration.openai_kit import KEY, failure, run, started


async def test_an_address_of_the_services_own_host_is_fetched_without_the_key(
    service: OpenAIServer, executor: OpenAIExecutor
) -> None:
    service.script(picture_url("{base}/files/1.png"), file(base64.b64decode(encoded((32, 16), (9, 9, 9)))))
    image = (await run(executor))[3]
    assert isinstance(image, JobImage)
    assert image.pixels.shape == (16, 32, 3)
    fetched = service.requests[1]
    assert (fetched.method, fetched.path) == ("GET", "/files/1.png")
    assert "authorization" not in fetched.headers


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/1.png",
        "http://127.0.0.1:1/1.png",
        "https://127.0.0.1/1.png",
        "https://10.0.0.1/1.png",
        "https://[::1]/1.png",
        "https://nothing.invalid/1.png",
        "file:///etc/passwd",
    ],
)
async def test_other_addresses_are_not_fetched(service: OpenAIServer, executor: OpenAIExecutor, url: str) -> None:
    service.script(picture_url(url))
    assert (await failure(executor)).reason == "UPSTREAM_URL"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "reply", [file(b"", 302, {"Location": "http://127.0.0.1:1/"}), file(b"no picture", 404), file(b"x" * 2_000_000)]
)
async def test_a_fetch_follows_no_redirect_and_has_the_same_limits(service: OpenAIServer, reply: Reply) -> None:
    async for executor in started(service, max_reply_bytes=1_000_000):
        service.script(picture_url("{base}/1.png"), reply)
        assert (await failure(executor)).reason in ("UPSTREAM_URL", "UPSTREAM_TOO_LONG")
        assert len(service.requests) == 2


async def test_the_server_double_speaks_to_the_official_client(service: OpenAIServer) -> None:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=service.base_url, max_retries=0) as client:
        reply = await client.images.generate(model="gpt-image-2.6-flare", prompt="a bag", size="1024x1024")
        assert reply.data is not None
        assert reply.data[0].b64_json == encoded((1024, 1024), (200, 30, 40))
        assert reply.usage is not None
        assert reply.usage.total_tokens == 1020
        stream = await client.images.generate(
            model="gpt-image-2.6-flare", prompt="a bag", size="1024x1024", stream=True, partial_images=2
        )
        kinds = [event.type async for event in stream]
        assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        service.script(
            refusal(429, "rate_limit_exceeded"), refusal(401, "invalid_api_key"), refusal(400, "x", param="size")
        )
        for kind in (openai.RateLimitError, openai.AuthenticationError, openai.BadRequestError):
            with pytest.raises(kind):
                await client.images.generate(model="gpt-image-2.6-flare", prompt="a bag")
