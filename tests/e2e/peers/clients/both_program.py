"""Has our client and those of others in one process, and calls the same server with each."""

import sys

target, model, *paths = sys.argv[1:]
sys.path.extend(paths)

import numpy as np  # noqa: E402
import tritonclient.grpc as triton  # noqa: E402
from tei_client import GrpcClient  # noqa: E402

import unitvec_client.cli.main  # noqa: E402, F401
from unitvec_client import Client  # noqa: E402

with Client(target) as client:
    [ours] = client.embed(["a cat"])
tensor = triton.InferInput("text", [1], "BYTES")
tensor.set_data_from_numpy(np.array(["a cat"], dtype=object))
[over_triton] = triton.InferenceServerClient(target).infer(model, [tensor]).as_numpy("embedding")
[over_tei] = GrpcClient(target).embed("a cat")
assert np.array_equal(ours, over_triton)
assert np.array_equal(ours, np.float32(over_tei))
