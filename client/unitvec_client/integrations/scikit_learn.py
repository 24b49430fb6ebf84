"""unitvec as a transformer of scikit-learn (the extra ``scikit-learn``)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unitvec_client.connection import ConnectionOptions
from unitvec_client.core.inputs import check_texts
from unitvec_client.errors import InputTypeError
from unitvec_client.integrations.extras import missing
from unitvec_client.methods.core import DEFAULT_TIMEOUT_S
from unitvec_client.providers.endpoint import Endpoint
from unitvec_client.providers.filling import read_filling
from unitvec_client.providers.provider import Provider, TextOptions, provider_of
from unitvec_client.values import read_count

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
except ImportError as exc:
    raise missing("scikit-learn", exc) from exc


class UnitvecTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Turns texts into vectors in a pipeline, by a unitvec server.

    Learns nothing: `fit` asks the server for the model's dimension, and `transform` works
    without it. After `fit`, `transform` warns of vectors of another space or prompt, as where a
    stored pipeline meets another server. Connects at the first call; copies and pickles connect
    anew. A pickle holds `connection`, with its token if it has one; `token_env_var` keeps the token
    out of it.

        make_pipeline(UnitvecTransformer("localhost:50051"), LogisticRegression())

    Args:
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set.
        model: Name of the model; empty for the server's default.
        prompt_name: The prompt put before each text, by name; None for the model's default
            prompt, empty for no prompt.
        dimensions: Keep only this many leading dimensions; None keeps all.
        normalize: Scale each vector to unit L2 norm; False returns what the model's own pipeline
            returns. None keeps its norm, also where `dimensions` cuts a vector of unit norm.
        connection: TLS, token and channel options; plaintext by default.
        token_env_var: Name of the environment variable that holds the token.
        timeout_s: For each 512 texts of a call, in seconds; None for no deadline.
        expect: Fingerprint that all vectors must have, such as ``s1-...``; None for any.
    """

    # Not set in the constructor, where scikit-learn allows parameters only.
    _opened: Provider | None = None

    def __init__(
        self,
        target: str | None = None,
        *,
        model: str = "",
        prompt_name: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        connection: ConnectionOptions | None = None,
        token_env_var: str | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        expect: str | None = None,
    ) -> None:
        self.target = target
        self.model = model
        self.prompt_name = prompt_name
        self.dimensions = dimensions
        self.normalize = normalize
        self.connection = connection
        self.token_env_var = token_env_var
        self.timeout_s = timeout_s
        self.expect = expect

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803  # scikit-learn's names
        """Ask the server for the dimension of the vectors.

        Args:
            X: Texts: a list, an array or a column of a data frame.
            y: Not used.

        Raises:
            InputError: If `X` is not a sequence of str, or a parameter is wrong.
            UnitvecError: If the call fails.
        """
        _check_column(X)
        dim = self._provider().model().dim
        kept = dim if self.dimensions is None else read_count("dimensions", self.dimensions)
        self._n_features_out = min(dim, kept)
        filling = read_filling(self._provider(), None, self._options())
        self.filled_with_ = asdict(filling) if filling else {}
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return the vectors of texts, float32 (n, D).

        Args:
            X: Texts: a list, an array or a column of a data frame.

        Raises:
            InputError: If `X` is not a sequence of str, or a parameter is wrong.
            UnitvecError: If the call fails; all or nothing.
        """
        result = self._provider().embed(_check_column(X), self._options())
        if stored := getattr(self, "filled_with_", None):
            filling = read_filling(self._provider(), None, self._options())
            if filling is not None:
                replace(filling, space=result.space).warn_of(stored, "the fitted pipeline")
        vectors: NDArray[np.float32] = result.values()
        return vectors

    def close(self) -> None:
        """Close the connection. A later call opens it again."""
        if self._opened is not None:
            self._opened.close()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags

    def _options(self) -> TextOptions:
        return TextOptions(
            prompt_name=self.prompt_name,
            dimensions=self.dimensions,
            normalize=True if self.normalize is None else self.normalize,
            own_norm=self.normalize is None,
        )

    def _provider(self) -> Provider:
        # Parameters may be set after the first call.
        endpoint = Endpoint(
            self.target,
            self.model,
            self.connection,
            self.token_env_var,
            self.timeout_s,
            self.expect,
        )
        self._opened = provider_of(endpoint, self._opened)
        return self._opened


def _check_column(X: Any) -> list[str]:  # noqa: N803
    """Return the texts, or say how a `ColumnTransformer` is made to hand over one column.

    Raises:
        InputTypeError: If `X` is a table or no sequence of str.
        InputError: If a text is not valid Unicode.
    """
    columns: Any = getattr(X, "columns", ())
    if len(columns) == 1 and isinstance(columns[0], str):
        raise InputTypeError(
            f"X is a table ({type(X).__name__}) of one column: give the column, X[{columns[0]!r}]; "
            f"in a ColumnTransformer name it {columns[0]!r}, not [{columns[0]!r}]"
        )
    return check_texts(X, "X")
