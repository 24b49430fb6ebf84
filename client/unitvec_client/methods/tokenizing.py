"""`tokenize`: texts -> requests, a few in flight -> token ids, tokens and offsets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from unitvec_client.core.calls import CallContext, Pipeline
from unitvec_client.core.decoding import decode_tokenized
from unitvec_client.core.failures import Failure
from unitvec_client.core.inputs import utf8_bytes
from unitvec_client.core.rpcs import TOKENIZE
from unitvec_client.core.splitting import Budget, split
from unitvec_client.core.steps import Script
from unitvec_client.errors import ProtocolError, UnitvecError
from unitvec_client.expectation import OneModel
from unitvec_client.methods.embedding import shift_field
from unitvec_client.options import TRUNCATES, TokenizeOptions
from unitvec_client.results import TokenizedText
from unitvec_protos.v1 import embedding_pb2 as pb

# A reply is larger than its request: for each token, which is of at least one byte, it holds an
# id, the token with its length, and two offsets.
_REPLY_BYTES_PER_TEXT_BYTE = 24


@dataclass(slots=True)
class Tokenizing:
    """One `tokenize` of any number of texts.

    Attributes:
        context: Circumstances of the call.
        texts: All texts of the call, at least one.
        options: Wishes of the caller.
        budget: Bounds of one message.
    """

    context: CallContext
    texts: list[str]
    options: TokenizeOptions
    budget: Budget
    _ranges: list[tuple[int, int]] = field(default_factory=list)
    _found: dict[int, list[TokenizedText]] = field(default_factory=dict)
    _model: OneModel = field(default_factory=OneModel)

    def run(self) -> Script[list[TokenizedText]]:
        """Send all texts and return one result for each.

        Raises:
            UnitvecError: The first failure; `field` counts in all texts.
        """
        sizes_bytes = [utf8_bytes(text) for text in self.texts]
        self.budget.check_sizes(sizes_bytes, "texts")
        replies_bytes = [size_bytes * _REPLY_BYTES_PER_TEXT_BYTE for size_bytes in sizes_bytes]
        self._ranges = list(split(replies_bytes, self.budget))
        pipeline = Pipeline(self.context, TOKENIZE, self._on_reply, self._on_failure)
        yield from pipeline.run(self._requests())
        return [text for index in sorted(self._found) for text in self._found[index]]

    def _requests(self) -> Iterator[pb.TokenizeRequest]:
        options = self.options
        for start, stop in self._ranges:
            request = pb.TokenizeRequest(
                model=options.model,
                texts=self.texts[start:stop],
                truncate=TRUNCATES[options.truncate],
            )
            if options.prompt_name is not None:
                request.prompt_name = options.prompt_name
            yield request

    def _on_reply(self, index: int, response: pb.TokenizeResponse) -> None:
        start, stop = self._ranges[index]
        if len(response.texts) != stop - start:
            message = f"bad reply: {len(response.texts)} results for {stop - start} texts"
            raise ProtocolError(message)
        self._model.check(response.space, response.bits)
        self._found[index] = decode_tokenized(response.texts)

    def _on_failure(self, index: int, failure: Failure) -> UnitvecError:
        return shift_field(self.context, failure, self._ranges[index][0])
