"""LlamaCloud's own client, asynchronous or not, driven alike; answers are checked strictly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import llama_cloud
from pydantic import BaseModel

Answer = TypeVar("Answer", bound=BaseModel)

# Every test counts calls, and the client's own retries would be counted with them.
NO_RETRIES = 0
TIMEOUT_SECONDS = 10.0


class Official:
    """The official client; `call` names a method by its path, as `parsing.create`."""

    def __init__(self, client: llama_cloud.LlamaCloud | llama_cloud.AsyncLlamaCloud) -> None:
        self._client = client

    def method(self, path: str, *, raw: bool = False) -> Any:
        """Give a method of the client, or the one that gives the raw response."""
        resource, _, name = path.rpartition(".")
        found: Any = self._client
        for part in resource.split("."):
            found = getattr(found, part)
        return getattr(found.with_raw_response if raw else found, name)

    async def call(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Give what a method returns."""
        method = self.method(path)
        if isinstance(self._client, llama_cloud.AsyncLlamaCloud):
            return await method(*args, **kwargs)
        return await asyncio.to_thread(method, *args, **kwargs)

    async def body(self, path: str, *args: Any, **kwargs: Any) -> bytes:
        """Give the raw body that a method was answered with."""
        method = self.method(path, raw=True)
        if isinstance(self._client, llama_cloud.AsyncLlamaCloud):
            return bytes((await method(*args, **kwargs)).http_response.content)
        return bytes((await asyncio.to_thread(method, *args, **kwargs)).http_response.content)

    async def strict(self, kind: type[Answer], path: str, *args: Any, **kwargs: Any) -> Answer:
        """Give an answer read strictly, with no field that the client does not know."""
        return read_strictly(kind, await self.body(path, *args, **kwargs))


def read_strictly(kind: type[Answer], body: bytes) -> Answer:
    """Read a body into a type of the client, which by itself lets anything pass."""
    answer = kind.model_validate_json(body, strict=True)
    assert unknown_fields(answer) == []
    assert kind.model_fields.keys() == answer.model_fields_set
    return answer


def unknown_fields(value: Any, path: str = "") -> list[str]:
    """Give the paths of all fields that the client's types do not declare."""
    if isinstance(value, BaseModel):
        found = [f"{path}.{name}" for name in value.model_extra or {}]
        for name in value.model_fields_set & type(value).model_fields.keys():
            found += unknown_fields(getattr(value, name), f"{path}.{name}")
        return found
    if isinstance(value, list):
        return [
            each for index, v in enumerate(value) for each in unknown_fields(v, f"{path}.{index}")
        ]
    return []


@asynccontextmanager
async def open_official(url: str, api_key: str, *, synchronous: bool) -> AsyncIterator[Official]:
    """Open LlamaCloud's own client on a server."""
    settings: dict[str, Any] = {"api_key": api_key, "base_url": url}
    settings |= {"max_retries": NO_RETRIES, "timeout": TIMEOUT_SECONDS}
    if synchronous:
        with llama_cloud.LlamaCloud(**settings) as client:
            yield Official(client)
    else:
        async with llama_cloud.AsyncLlamaCloud(**settings) as client:
            yield Official(client)
