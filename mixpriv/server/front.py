"""The configuration of Envoy before a tritonserver: who is let in, what may be asked, how much, and what is noted.

Envoy's own names are at https://www.envoyproxy.io/docs/envoy/latest/api-v3/api. What is set beside our rules follows
its page "Configuring Envoy as an edge proxy".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixpriv.server.certificates import SITE_URI
from mixpriv.server.sites import Site

SERVICE = "/inference.GRPCInferenceService/"
QUOTA = "this site's quota is used up"
"""Begins what a client is told that asks too much; `mixpriv.wire.faults` knows it."""

CONFIG_BYTES = 2**14
"""The most that a request for the model's configuration has: Envoy takes one frame of HTTP/2 as it comes."""

CERTIFICATE, KEY, CLIENTS, REVOKED = "server.pem", "server.key", "clients.pem", "revoked.crl"
"""Who the front is, whom it lets in, and whom not any more."""

SITE_HEADER = "x-mixpriv-site"
CONNECTION_S = 300
"""The most that a connection lasts: then its certificate is checked again, which may have been revoked."""

REQUEST_S = 600
_CONFIGS_PER_INFERENCE = 10
_CONNECTIONS = 1000
_STREAMS = 32
_WINDOW = 2**22
_HEAP = 2**31
_TYPE = "type.googleapis.com/"
_TLS = f"{_TYPE}envoy.extensions.transport_sockets.tls.v3."
_FILTERS = "envoy.extensions.filters.http."


@dataclass(frozen=True)
class Front:
    """What a front's configuration depends on.

    Attributes
    ----------
    host, port : where clients come
    triton : the tritonserver behind it, ``HOST:PORT`` or ``unix:/path``
    folder : certificates, under the names above, and what `secrets` says of them
    sites : who may ask how much
    models : names that are noted in the log; others are noted as unknown
    request_bytes : the most that a request for inference has
    metrics : address and port where Prometheus may read, in plain text; None for nowhere
    admin : socket for Envoy's administration; None for none
    log : file for a line of each call
    """

    host: str
    port: int
    triton: str
    folder: Path
    sites: Sequence[Site]
    models: Sequence[str]
    request_bytes: int
    metrics: tuple[str, int] | None = None
    admin: Path | None = None
    log: Path = Path("/dev/stdout")


def configuration(front: Front) -> dict[str, Any]:
    """Envoy's bootstrap configuration, to be written as JSON."""
    clusters = [_cluster(site.name, front.triton, _limits(site)) for site in front.sites]
    listeners = [_listener(front)]
    document: dict[str, Any] = {"node": {"id": "front", "cluster": "mixpriv"}}
    document |= {"static_resources": {"listeners": listeners, "clusters": clusters}}
    if front.admin is not None:
        document["admin"] = {"address": _pipe(front.admin)}
        if front.metrics is not None:
            clusters.append(_cluster("_admin", f"unix:{front.admin}", {}))
            listeners.append(_metrics_listener(*front.metrics))
    return document | {
        "stats_config": {
            "stats_tags": [{"tag_name": "site", "regex": r"^cluster\.((.+?)\.)"}, *_limit_tags()],
            "use_all_default_tags": False,
        },
        "overload_manager": {
            "resource_monitors": [
                _monitor("global_downstream_max_connections", "DownstreamConnectionsConfig",
                         {"max_active_downstream_connections": _CONNECTIONS}),
                _monitor("fixed_heap", "FixedHeapConfig", {"max_heap_size_bytes": _HEAP}),
            ],
            "actions": [
                {
                    "name": "envoy.overload_actions.stop_accepting_requests",
                    "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": 0.95}}],
                }
            ],
        },
    }  # fmt: skip


def _listener(front: Front) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "HTTP2",
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "use_remote_address": True,
        "skip_xff_append": True,
        "common_http_protocol_options": {
            "max_connection_duration": f"{CONNECTION_S}s",
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 40,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": _STREAMS,
            "initial_stream_window_size": _WINDOW,
            "initial_connection_window_size": 2 * _WINDOW,
        },
        # What is sent must be here in this time; what is computed may take longer.
        "request_timeout": "120s",
        "request_headers_timeout": "10s",
        "stream_idle_timeout": f"{REQUEST_S}s",
        "early_header_mutation_extensions": [_site_header()],
        "local_reply_config": {"mappers": [_quota_reply()]},
        "access_log": [_log(front.log)],
        "http_filters": [
            _filter("local_ratelimit", "LocalRateLimit", {"stat_prefix": "none"}),
            _filter("buffer", "Buffer", {"max_request_bytes": front.request_bytes}),
            _filter("lua", "Lua", {"default_source_code": {"inline_string": _noting(front.models)}}),
            _filter("router", "Router", {"suppress_envoy_headers": True}),
        ],
        "route_config": {
            "name": "calls",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": list(_routes(front))}],
        },
    }
    return {
        "name": "front",
        "address": _socket(front.host, front.port),
        "per_connection_buffer_limit_bytes": front.request_bytes + 2**16,
        "access_log": [_log(front.log, connections=True)],
        "filter_chains": [
            {
                "transport_socket": _tls(front.folder),
                "transport_socket_connect_timeout": "10s",
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
            }
        ],
    }


def secrets(folder: Path) -> dict[str, dict[str, Any]]:
    """Two files that name the certificates: only so Envoy reads these again when one in the folder is replaced."""
    watched = {"path": str(folder)}
    identity = {
        "certificate_chain": {"filename": str(folder / CERTIFICATE)},
        "private_key": {"filename": str(folder / KEY)},
        "watched_directory": watched,
    }
    trust = {
        "trusted_ca": {"filename": str(folder / CLIENTS)},
        "crl": {"filename": str(folder / REVOKED)},
        "watched_directory": watched,
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": SITE_URI}}],
    }
    return {
        "identity.json": _secret("identity", {"tls_certificate": identity}),
        "trust.json": _secret("trust", {"validation_context": trust}),
    }


def _secret(name: str, what: dict[str, Any]) -> dict[str, Any]:
    return {"resources": [{"@type": f"{_TLS}Secret", "name": name, **what}]}


def _tls(folder: Path) -> dict[str, Any]:
    """Mutual TLS with `secrets`."""

    def secret(name: str) -> dict[str, Any]:
        return {"name": name, "sds_config": {"path_config_source": {"path": str(folder / f"{name}.json")}}}

    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TLS}DownstreamTlsContext",
            "require_client_certificate": True,
            # A session that is taken up again would pass the revocation list by.
            "disable_stateless_session_resumption": True,
            "disable_stateful_session_resumption": True,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificate_sds_secret_configs": [secret("identity")],
                "validation_context_sds_secret_config": secret("trust"),
            },
        },
    }


def _routes(front: Front) -> Iterable[dict[str, Any]]:
    """Two calls for each site; everything else is refused."""
    packed = [{"name": "grpc-encoding", "present_match": True},
              {"name": "grpc-encoding", "string_match": {"exact": "identity"}, "invert_match": True}]  # fmt: skip
    yield _refusal({"prefix": "/", "headers": packed}, 404, "compressed requests are not served here")
    for site in front.sites:
        yield _route(site, "ModelInfer", 1, front.request_bytes)
        yield _route(site, "ModelConfig", _CONFIGS_PER_INFERENCE, CONFIG_BYTES)
    for call in ("ModelInfer", "ModelConfig"):
        yield _refusal({"path": SERVICE + call}, 403, "this site is not served here")
    yield _refusal({"prefix": "/"}, 404, "this call is not served here")


def _route(site: Site, call: str, often: int, most_bytes: int) -> dict[str, Any]:
    interval_s = 60 / (site.requests_per_minute * often)
    per_fill = max(1, round(0.05 / interval_s))  # Envoy fills no more often than every 50 ms
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit = {
        "@type": f"{_TYPE}{_FILTERS}local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": f"{site.name}.{call}",
        "token_bucket": {
            "max_tokens": site.burst * often,
            "tokens_per_fill": per_fill,
            "fill_interval": f"{interval_s * per_fill:.6f}s",
        },
        "filter_enabled": always,
        "filter_enforced": always,
    }
    buffer = {"@type": f"{_TYPE}{_FILTERS}buffer.v3.BufferPerRoute", "buffer": {"max_request_bytes": most_bytes}}
    return {
        "match": {
            "path": SERVICE + call,
            "grpc": {},
            "headers": [{"name": SITE_HEADER, "string_match": {"exact": SITE_URI + site.name}}],
        },
        "route": {"cluster": site.name, "timeout": f"{REQUEST_S}s"},
        "request_headers_to_remove": [SITE_HEADER],
        "typed_per_filter_config": {"envoy.filters.http.local_ratelimit": limit, "envoy.filters.http.buffer": buffer},
    }


def _refusal(match: dict[str, Any], status: int, text: str) -> dict[str, Any]:
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": text}}}


def _limits(site: Site) -> dict[str, Any]:
    """One connection for a site, with so many calls at once: the others wait for it, and for no other site's."""
    return {
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1,
                    "max_pending_requests": site.waiting,
                    "max_requests": site.at_once + site.waiting,
                    "max_retries": 0,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "max_concurrent_streams": site.at_once,
                        "initial_stream_window_size": _WINDOW,
                        "initial_connection_window_size": 2 * _WINDOW,
                    }
                },
            }
        },
    }


def _cluster(name: str, address: str, limits: dict[str, Any]) -> dict[str, Any]:
    if address.startswith("unix:"):
        where = _pipe(Path(address.removeprefix("unix:")))
    else:
        host, _, port = address.rpartition(":")
        where = _socket(host.strip("[]"), int(port))
    endpoints = [{"endpoint": {"address": where}}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **limits,
    }


def _site_header() -> dict[str, Any]:
    """Who asks, by the certificate: whatever a client says of itself is replaced."""
    header = {"key": SITE_HEADER, "value": "%DOWNSTREAM_PEER_URI_SAN%"}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                {"remove": SITE_HEADER},
                {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
            ],
        },
    }


def _quota_reply() -> dict[str, Any]:
    """What is told to whom asks too often (429), or too much at once (UO)."""
    often = {"comparison": {"op": "EQ", "value": {"default_value": 429, "runtime_key": "none"}}}
    much = {"flags": ["UO"]}
    return {
        "filter": {"or_filter": {"filters": [{"status_code_filter": often}, {"response_flag_filter": much}]}},
        "status_code": 429,
        "body": {"inline_string": QUOTA},
    }


def _noting(models: Sequence[str]) -> str:
    """Take the model's name, the first field of both requests, for the log: one of ours, or unknown."""
    known = ", ".join(f'["{name}"]=true' for name in models)
    return f"""
local known = {{{known}}}
function envoy_on_request(handle)
  local body = handle:body()
  local model = "unknown"
  if body and body:length() > 7 and body:length() < 2^31 then
    local head = body:getBytes(5, math.min(130, body:length() - 5))
    if head:byte(1) == 10 and head:byte(2) < 128 then
      local name = head:sub(3, 2 + head:byte(2))
      if known[name] then model = name end
    end
  end
  handle:streamInfo():dynamicMetadata():set("mixpriv", "model", model)
end
"""


def _log(path: Path, *, connections: bool = False) -> dict[str, Any]:
    """A line of JSON for each call, or for each connection; nothing of a request's content."""
    facts = {
        "time": "%START_TIME%",
        "site": "%DOWNSTREAM_PEER_URI_SAN%",
        "serial": "%DOWNSTREAM_PEER_SERIAL%",
        "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    }
    facts |= (
        {"refused": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"}
        if connections
        else {
            "call": "%REQ(:PATH)%",
            "model": "%DYNAMIC_METADATA(mixpriv:model)%",
            "bytes_in": "%BYTES_RECEIVED%",
            "bytes_out": "%BYTES_SENT%",
            "outcome": "%GRPC_STATUS(SNAKE_STRING)%",
            "flags": "%RESPONSE_FLAGS%",
            "ms": "%DURATION%",
        }
    )
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": facts},
        },
    }


def _metrics_listener(host: str, port: int) -> dict[str, Any]:
    """Prometheus reads this and nothing else of Envoy's administration."""
    manager = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "http_filters": [_filter("router", "Router", {})],
        "route_config": {
            "name": "metrics",
            "virtual_hosts": [
                {
                    "name": "metrics",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {
                                "path": "/metrics",
                                "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
                            },
                            "route": {"cluster": "_admin", "prefix_rewrite": "/stats/prometheus?usedonly"},
                        }
                    ],
                }
            ],
        },
    }
    return {
        "name": "metrics",
        "address": _socket(host, port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _limit_tags() -> list[dict[str, Any]]:
    return [
        {"tag_name": "site", "regex": r"^(([a-z0-9-]+)\.)Model(?:Infer|Config)\.http_local_rate_limit\."},
        {"tag_name": "call", "regex": r"^[a-z0-9-]+\.((Model(?:Infer|Config))\.)http_local_rate_limit\."},
    ]


def _monitor(name: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    package = "downstream_connections" if name.startswith("global") else name
    kind = f"{_TYPE}envoy.extensions.resource_monitors.{package}.v3.{kind}"
    return {"name": f"envoy.resource_monitors.{name}", "typed_config": {"@type": kind, **settings}}


def _filter(name: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    kind = f"{_TYPE}{_FILTERS}{name}.v3.{kind}"
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": kind, **settings}}


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _pipe(path: Path) -> dict[str, Any]:
    return {"pipe": {"path": str(path), "mode": 0o600}}
