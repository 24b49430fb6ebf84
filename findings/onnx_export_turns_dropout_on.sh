#!/usr/bin/env bash
# Versions: torch 2.13.0, onnx 1.23.2 (Python 3.11), TorchScript exporter (dynamo=False).
# Guess: a model that is in evaluation mode still is after torch.onnx.export, which only reads it.
# Seen: where the model is wrapped in a new module, as is usual to choose inputs and outputs, the wrapper's own
#   `training` flag is True, as of every new module. The exporter switches the wrapper to evaluation, and at its end
#   back to training, which reaches the model inside: its dropout is on from then on. Vectors that are compared
#   with the exported graph after that differ at random, and nothing says why. `.eval()` on the wrapper avoids it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 numpy==2.4.6
"$folder/env/bin/python" - "$folder/model.onnx" <<'PYTHON'
import sys
import warnings

import torch

warnings.simplefilter("ignore")


class Wrapper(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, values):
        return self.model(values)


def export(wrapper):
    torch.onnx.export(wrapper, (torch.ones(1, 64),), sys.argv[1], dynamo=False)


def model():
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Dropout(0.5)).eval()


wrapped, careful = model(), model()
before = wrapped(torch.ones(1, 64))
export(Wrapper(wrapped))
export(Wrapper(careful).eval())
same = torch.equal(before, wrapped(torch.ones(1, 64)))
print(f"after the export: training {wrapped.training}, the same result as before: {same}")
print(f"with .eval() on the wrapper: training {careful.training}")
sys.exit(0 if wrapped.training and not same and not careful.training else 1)
PYTHON
