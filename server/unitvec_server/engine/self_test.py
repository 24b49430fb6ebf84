"""Before the first caller: holds what a model computes here against what it did at its export."""

from __future__ import annotations

import logging

from unitvec_server.errors import SelfTestError
from unitvec_server.model.artifact import Artifact
from unitvec_server.model.canary import Canary, embed_canary, fit_canary, read_canary
from unitvec_server.model.encoder import Encoder
from unitvec_server.model.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_WRONG_VECTORS = (
    "model {name} computes wrong vectors here: {reason}. Its files were changed, or this machine "
    "or its onnxruntime is at fault: export it again, try another --precision, or serve it all the "
    "same with --self-test false"
)


def find_canary(artifact: Artifact, graph: str, tokenizer: Tokenizer, bits: str) -> Canary | None:
    """The canary of a graph, exact where what runs it now promises the bits of the export.

    Args:
        artifact: The artifact.
        graph: Name of the graph that runs.
        tokenizer: Its tokenizer.
        bits: Fingerprint of how vectors are computed here.

    Raises:
        ArtifactError: It is damaged.
    """
    identity = artifact.manifest.identity
    is_exact = identity is not None and identity.bits.get(graph) == bits
    canary = read_canary(artifact, graph, is_exact=is_exact)
    return canary and fit_canary(canary, tokenizer)


def run_self_test(name: str, canary: Canary | None, tokenizer: Tokenizer, encoder: Encoder) -> None:
    """Makes sure that a model computes what it did when it was exported.

    Raises:
        SelfTestError: It does not.
    """
    if canary is None or not canary.texts:
        logger.info("model %s: no self-test, which takes an artifact that is exported anew", name)
        return
    try:
        canary.check(embed_canary(tokenizer, encoder, canary.texts))
    except SelfTestError as exc:
        raise SelfTestError(_WRONG_VECTORS.format(name=name, reason=exc)) from exc
