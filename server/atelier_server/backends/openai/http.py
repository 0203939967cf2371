"""HTTP with limits: replies are cut off where they become too long, redirects are not followed, pictures are fetched
only from where they may come.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator

import httpx2

from atelier_server.backends.openai.parameters import Parameters
from atelier_server.errors import Unavailable


def make_client(parameters: Parameters) -> httpx2.AsyncClient:
    """A client that keeps the limits of the parameters. Replies come uncompressed, so that their size is what it is."""
    most = parameters.max_reply_bytes

    async def limit(response: httpx2.Response) -> None:
        if not isinstance(response.stream, httpx2.AsyncByteStream):
            raise TypeError("not an asynchronous reply")
        response.stream = _Limited(response.stream, most)

    return httpx2.AsyncClient(
        timeout=timeouts(parameters),
        follow_redirects=False,
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [limit]},
    )


def timeouts(parameters: Parameters) -> httpx2.Timeout:
    """Connection and silence; the whole request is timed by its sender."""
    return httpx2.Timeout(parameters.stall_timeout_seconds, connect=parameters.connect_timeout_seconds)


async def fetch(client: httpx2.AsyncClient, url: str, base_url: str) -> bytes:
    """Fetches a picture that a service answered with a URL. The key is not sent.

    Raises:
        Unavailable: The URL may not be followed, or the fetch failed.
    """
    await _check(httpx2.URL(url), httpx2.URL(base_url))
    try:
        response = await client.get(url)
    except httpx2.HTTPError:
        raise _refused("cannot be fetched") from None
    if response.status_code != 200:
        raise _refused(f"answers with HTTP status {response.status_code}")
    return response.content


async def _check(url: httpx2.URL, base: httpx2.URL) -> None:
    """Takes the service's own host, or https to a public address: a service must not make us read our own network."""
    if (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port):
        return
    if url.scheme != "https" or not url.host:
        raise _refused("is not https")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, 443, type=socket.SOCK_STREAM)
    except OSError:
        raise _refused("has an unknown host") from None
    if not all(ipaddress.ip_address(entry[4][0]).is_global for entry in found):
        raise _refused("leads into a private network")


def _refused(why: str) -> Unavailable:
    return Unavailable(f"the picture's address that the image service gave {why}", reason="UPSTREAM_URL")


class _Limited(httpx2.AsyncByteStream):
    """A reply's body that ends with an error where it becomes too long."""

    def __init__(self, inner: httpx2.AsyncByteStream, most_bytes: int) -> None:
        self._inner = inner
        self._left = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise Unavailable("the image service's reply is too long and was cut off", reason="UPSTREAM_TOO_LONG")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
