"""A stand-in for the Dapr sidecar over a real Redis: state, publish, health.

It is a process of its own and keeps Dapr's layout of Redis keys.

`python -m tests.soak.sidecar PORT REDIS_URL`
"""

import json
import sys

import redis.asyncio
import uvicorn
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def sidecar(redis_url: str) -> Starlette:
    """Return the application; where Redis fails it answers 500, as the sidecar does."""
    broker = redis.asyncio.from_url(redis_url)

    async def health(_request: Request) -> Response:
        return Response(status_code=204)

    async def state(request: Request) -> Response:
        items = []
        for key in (await request.json())["keys"]:
            data, version = await broker.hmget(key, "data", "version")
            items.append(
                {"key": key, "data": json.loads(data), "etag": (version or b"").decode()}
                if data
                else {"key": key}
            )
        return JSONResponse(items)

    async def publish(request: Request) -> Response:
        await broker.xadd(request.path_params["topic"], {"data": await request.body()})
        return Response(status_code=204)

    async def broken(_request: Request, _error: Exception) -> Response:
        return Response(b'{"errorCode":"ERR_COMPONENT"}', 500)

    routes = [
        Route("/v1.0/healthz/outbound", health),
        Route("/v1.0/state/{store}/bulk", state, methods=["POST"]),
        Route("/v1.0/publish/{pubsub}/{topic}", publish, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={RedisError: broken, OSError: broken})


if __name__ == "__main__":
    uvicorn.run(sidecar(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
