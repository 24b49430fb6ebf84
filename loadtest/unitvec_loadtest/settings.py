"""What a load test is asked to do: one frozen value, checked once."""

from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from unitvec_client.targets import DEFAULT_TARGET
from unitvec_loadtest.pacer import NS_PER_S, ConstantPacer, Pacer, PoissonPacer, Window

DEFAULT_DURATION_S = 10.0
"""Measured time where neither a duration nor a count is asked for."""
DEFAULT_START_RATE_PER_S = 10.0
"""Where the search for the highest rate begins."""


class Rpc(Enum):
    """What is called."""

    EMBED = "embed"
    """Unary Embed."""
    STREAM = "stream"
    """StreamEmbed: messages over long-lived streams, one stream on each channel."""
    SIMILARITY = "similarity"
    """Unary Similarity: the first text of a request against the others."""


class Arrivals(Enum):
    """How the requests of an open loop are spaced."""

    CONSTANT = "constant"
    POISSON = "poisson"


class WireDtype(Enum):
    """The number type that vectors are asked for in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


class SettingsError(ValueError):
    """What is asked for makes no sense. The message names the flag."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a load test is asked to do.

    Names are those of the flags, with units. Either `rate_per_s` (open loop) or `concurrency`
    (closed loop) rules; with `find_max` the rate is only where the search begins. With neither
    a duration nor a count, `DEFAULT_DURATION_S` are measured.

    Raises:
        SettingsError: The values do not fit together.
    """

    target: str = DEFAULT_TARGET
    rpc: Rpc = Rpc.EMBED
    rate_per_s: float | None = None
    arrivals: Arrivals = Arrivals.CONSTANT
    concurrency: int | None = None
    duration_s: float | None = None
    count: int | None = None
    warmup_s: float = 2.0
    texts: Path | None = None
    field: str | None = None
    input_format: str | None = None
    texts_per_request: int = 1
    channels: int = 1
    timeout_s: float = 30.0
    max_in_flight: int = 4096
    model: str = ""
    dtype: WireDtype = WireDtype.FLOAT32
    seed: int = 0
    tls: bool = False
    root_certificates: Path | None = None
    client_chain: Path | None = None
    client_key: Path | None = None
    token: str | None = None
    output_json: Path | None = None
    output_html: Path | None = None
    allow_errors: bool = False
    verify: bool = False
    find_max: bool = False
    p99_ms: float | None = None
    max_rate_per_s: float = 100_000.0
    step_s: float = 5.0

    def __post_init__(self) -> None:
        """Checks every value, then how they fit together."""
        self._check_ranges()
        self._check_relations()

    def _check_ranges(self) -> None:
        for name, flag in _POSITIVE.items():
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SettingsError(f"{flag} must be greater than 0, got {value}")
        if not 0 <= self.warmup_s < float("inf"):
            raise SettingsError(f"--warmup-s must be 0 or more, got {self.warmup_s}")

    def _check_relations(self) -> None:
        relations = (*_load_relations(self), *_request_relations(self), *_output_relations(self))
        for wrong, message in relations:
            if wrong:
                raise SettingsError(message)

    @property
    def is_open_loop(self) -> bool:
        """Requests are sent at a rate, whatever the server does."""
        return self.rate_per_s is not None or self.find_max

    @property
    def workers(self) -> int:
        """Requests in flight in a closed loop."""
        return self.concurrency or 1

    @property
    def window(self) -> Window:
        """What is sent and what of it counts."""
        if self.count is not None:
            return Window(_to_ns(self.warmup_s), count=self.count)
        return Window(_to_ns(self.warmup_s), duration_ns=_to_ns(self.measured_s))

    @property
    def measured_s(self) -> float:
        """How long is measured where no count is given."""
        return DEFAULT_DURATION_S if self.duration_s is None else self.duration_s

    @property
    def step_window(self) -> Window:
        """The window of one step of the search for the highest rate."""
        return Window(_to_ns(self.warmup_s), duration_ns=_to_ns(self.step_s))

    @property
    def start_rate_per_s(self) -> float:
        """Where the search for the highest rate begins."""
        start = DEFAULT_START_RATE_PER_S if self.rate_per_s is None else self.rate_per_s
        return min(start, self.max_rate_per_s)

    def pacer(self, rate_per_s: float) -> Pacer:
        """The arrivals asked for, at some rate."""
        if self.arrivals is Arrivals.POISSON:
            return PoissonPacer(rate_per_s, seed=self.seed)
        return ConstantPacer(rate_per_s)

    def public(self) -> dict[str, Any]:
        """All settings as JSON values, without the token, which is a secret."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        del values["token"]
        return {name: _to_json(value) for name, value in values.items()}


_POSITIVE = {
    "rate_per_s": "--rate",
    "concurrency": "--concurrency",
    "duration_s": "--duration-s",
    "count": "--count",
    "texts_per_request": "--texts-per-request",
    "channels": "--channels",
    "timeout_s": "--timeout-s",
    "max_in_flight": "--max-in-flight",
    "p99_ms": "--p99-ms",
    "max_rate_per_s": "--max-rate",
    "step_s": "--step-s",
}

_Relations = tuple[tuple[bool, str], ...]


def _load_relations(asked: Settings) -> _Relations:
    """(is it wrong?, what to say) for how requests are paced."""
    closed = asked.concurrency is not None
    return (
        (
            closed and asked.rate_per_s is not None,
            "--rate is an open loop and --concurrency a closed one: give one of them",
        ),
        (
            asked.count is not None and asked.duration_s is not None,
            "--count and --duration-s both say when to stop: give one of them",
        ),
        (
            asked.arrivals is Arrivals.POISSON and not asked.is_open_loop,
            "--arrivals poisson needs an open loop: give --rate or --find-max",
        ),
        (
            asked.find_max and asked.p99_ms is None,
            "--find-max needs --p99-ms, the target that the rate must hold",
        ),
        (
            asked.find_max and (closed or asked.count is not None),
            "--find-max is an open loop of fixed steps: it takes no --concurrency or --count",
        ),
        (
            asked.p99_ms is not None and not asked.find_max,
            "--p99-ms is the target of --find-max: give both or neither",
        ),
        (
            asked.p99_ms is not None and asked.p99_ms >= asked.timeout_s * 1000,
            f"--p99-ms must be less than --timeout-s, which is {asked.timeout_s:g} s",
        ),
    )


def _request_relations(asked: Settings) -> _Relations:
    """(is it wrong?, what to say) for what requests hold."""
    plain = asked.dtype is WireDtype.FLOAT32
    return (
        (
            asked.rpc is Rpc.SIMILARITY and asked.texts_per_request < 2,
            "--rpc similarity compares texts: --texts-per-request must be 2 or more",
        ),
        (
            asked.rpc is Rpc.SIMILARITY and not plain,
            "--dtype is the number type of vectors, and --rpc similarity answers with scores",
        ),
        (asked.verify and not plain, "--verify compares float32 vectors: it takes no --dtype"),
    )


def _output_relations(asked: Settings) -> _Relations:
    """(is it wrong?, what to say) for the connection and the files."""
    has_key_parts = (asked.client_chain is not None, asked.client_key is not None)
    return (
        (
            has_key_parts[0] != has_key_parts[1],
            "--client-chain and --client-key belong together: give both or neither",
        ),
        (
            not asked.tls and (asked.root_certificates is not None or any(has_key_parts)),
            "certificates are for encrypted connections: add --tls",
        ),
        *(
            (
                path is not None and not path.absolute().parent.is_dir(),
                f"{flag}: no folder {path and path.absolute().parent}",
            )
            for flag, path in (
                ("--output-json", asked.output_json),
                ("--output-html", asked.output_html),
            )
        ),
    )


def _to_ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _to_json(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
