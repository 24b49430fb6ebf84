"""The HTTP door as a whole: which APIs there are, and its life from the start to the end."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Collection

from unitvec_server.config import ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import MethodTally
from unitvec_server.doors.insights import Insights
from unitvec_server.doors.rules import HouseRules
from unitvec_server.http import openapi, probes
from unitvec_server.http.apis import cohere, openai, page, tei, weaviate
from unitvec_server.http.bodies import BodyLimits
from unitvec_server.http.connection import ConnectionLimits
from unitvec_server.http.edge import HttpEdge
from unitvec_server.http.exchange import Route
from unitvec_server.http.listener import HttpListener
from unitvec_server.http.routes import Routes
from unitvec_server.security.hosts import host_check

_VALUES, _VALUES_PER_TEXT = 1024, 32
"""Strings, lists and objects in a body, and more of them for each text: Cohere's `inputs` have 8 of
a text, names included, and clients add fields of their own."""


class HttpDoor:
    """Serves the APIs that are asked for.

    Args:
        config: The configuration.
        rules: What holds at every door.
        backend: The engine, once it is there.
        insights: What probes and metrics tell.
    """

    def __init__(
        self, config: ServerConfig, rules: HouseRules, backend: Backend, insights: Insights
    ) -> None:
        self._config = config
        self._rules = rules
        routes = Routes(_table(config, backend, insights), openai.write_error)
        max_values = _VALUES + _VALUES_PER_TEXT * config.max_texts_per_request
        # A request of more token ids than may wait could hardly be let in.
        max_items = max_values + config.max_queued_tokens
        self._edge = HttpEdge(
            routes,
            rules,
            limits=BodyLimits(config.max_message_bytes, max_values, max_items),
            check_host=host_check(config.host, is_guarded=_is_guarded(config)),
        )
        limits = ConnectionLimits(
            config.max_connections, config.max_message_bytes, config.max_connection_age_s or 1e9
        )
        self._listener = HttpListener(self._edge, limits)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._listener.port

    @property
    def tallies(self) -> Collection[MethodTally]:
        """Counts of the requests of each route."""
        return self._edge.tallies.values()

    async def start(self, tls: ssl.SSLContext | None) -> None:
        """Begins to answer; until the models are loaded, that they are not.

        Raises:
            ConfigError: It cannot listen on the address.
        """
        await self._listener.start(self._config, tls)

    async def drain(self, grace_s: float) -> None:
        """Takes no more connections, and returns when what was asked for is answered.

        Args:
            grace_s: Time after which what is left is cut.
        """
        await self._listener.drain(grace_s)


def _is_guarded(config: ServerConfig) -> bool:
    return config.wants_token or config.insecure or config.tls_cert is not None


def _table(config: ServerConfig, backend: Backend, insights: Insights) -> list[Route]:
    """The routes of the APIs that are asked for, and of those that are always there."""
    apis: dict[str, Callable[[], list[Route]]] = {
        openai.API: openai.OpenAi(backend).routes,
        tei.API: tei.Tei(backend, config).routes,
        cohere.API: cohere.Cohere(backend).routes,
        weaviate.API: weaviate.Weaviate(backend).routes,
        probes.METRICS: probes.Metrics(insights.scrape).routes,
    }
    wanted = [routes() for name, routes in apis.items() if name in config.http_apis]
    table = [*itertools.chain.from_iterable(wanted), *probes.Probes(insights.is_serving).routes()]
    wants_token = config.wants_token
    pages = []
    if openapi.API in config.http_apis:
        pages += openapi.Pages(table, wants_token=wants_token).routes()
    if page.API in config.http_apis:  # not among the APIs that are described: it is for browsers
        pages += page.Page(backend, config, insights.grpc_port).routes()
    return table + pages
