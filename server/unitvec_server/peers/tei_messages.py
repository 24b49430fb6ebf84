"""Messages of `tei.v1`, read into domain values and written from them."""

from __future__ import annotations

import time

from google.protobuf.wrappers_pb2 import BytesValue

from unitvec_protos.tei import tei_pb2 as pb
from unitvec_server.doors.tokens import place_tokens
from unitvec_server.engine.requests import Embedded, EncodeOptions
from unitvec_server.errors import InvalidRequest
from unitvec_server.model.tokenizer import TokenizedText, Truncation
from unitvec_server.vectors.packing import Floats

_SIDES = {
    pb.TRUNCATION_DIRECTION_RIGHT: Truncation.END,
    pb.TRUNCATION_DIRECTION_LEFT: Truncation.START,
}


def read_inputs(request: pb.EmbedRequest | pb.EncodeRequest) -> str:
    """Reads the text, which TEI takes only if there is one.

    Raises:
        InvalidRequest: It is empty.
    """
    if not request.inputs:
        raise InvalidRequest("inputs cannot be empty", reason="NO_TEXTS", field="inputs")
    return request.inputs


def read_options(request: pb.EmbedRequest) -> EncodeOptions:
    """Reads how a text becomes a vector, with TEI's defaults.

    Raises:
        InvalidRequest: An option has a value that is never valid.
    """
    if request.truncation_direction not in _SIDES:
        raise InvalidRequest(
            f"{request.truncation_direction} is not a TruncationDirection",
            reason="UNKNOWN_ENUM_VALUE",
            field="truncation_direction",
        )
    if request.HasField("dimensions") and not request.dimensions:
        raise InvalidRequest("dimensions must be positive", field="dimensions")
    return EncodeOptions(
        normalize=request.normalize if request.HasField("normalize") else True,
        dimensions=request.dimensions,
        prompt_name=request.prompt_name if request.HasField("prompt_name") else None,
        side=_SIDES[request.truncation_direction],
        refuses_long=not request.truncate,
    )


def write_vector(vectors: Floats) -> pb.EmbedResponse:
    """Writes a vector (1, D) float32.

    Packed floats are the same on the wire as a field of their bytes, little-endian. To read such a
    message takes a microsecond, to fill a list with D numbers takes twelve.
    """
    data = vectors.astype("<f4", copy=False).tobytes()
    return pb.EmbedResponse.FromString(BytesValue(value=data).SerializeToString())


def write_metadata(metadata: pb.Metadata, inputs: str, embedded: Embedded, started_ns: int) -> None:
    """Writes what a text cost since a time on the monotonic clock."""
    metadata.compute_chars = len(inputs)
    metadata.compute_tokens = embedded.tokens[0]
    metadata.tokenization_time_ns = embedded.tokenize_ns
    metadata.queue_time_ns = embedded.queue_ns
    metadata.inference_time_ns = embedded.infer_ns
    metadata.total_time_ns = time.monotonic_ns() - started_ns


def write_tokens(text: TokenizedText, inputs: str, *, with_special: bool) -> pb.EncodeResponse:
    """Writes the tokens of a text.

    Args:
        text: The text as its tokens.
        inputs: The text itself, with its prompt.
        with_special: Whether the special tokens around it are wanted.
    """
    response = pb.EncodeResponse()
    for token in place_tokens(text, inputs, with_special=with_special):
        response.tokens.add(
            id=token.id,
            text=token.text,
            start=token.start,
            stop=token.stop,
            special=token.start is None,
        )
    return response
