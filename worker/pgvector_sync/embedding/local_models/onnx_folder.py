"""Reads the folder of a sentence-transformers export: prompts, maximum length, pooling and further layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgvector_sync.embedding.local_models.pooling import OLD_NAMES, POOLINGS
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Purpose

MAX_TOKENS = 512
"""Tokens read per text if no file says how many: the limit of nearly every BERT model."""
PROMPTS = {Purpose.QUERY: ("query",), Purpose.DOCUMENT: ("document", "passage", "corpus")}
"""The names under which sentence-transformers looks for the prompt of each purpose, in this order."""
_NO_LIMIT = 10**6
"""A tokenizer without a limit says so with the number 10 ** 30."""
_T = TypeVar("_T")
_HINT = "set `model` to onnx:FOLDER, a sentence-transformers export with model.onnx and tokenizer.json"


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer after the pooling."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    tanh: bool

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        result = vectors @ self.weight.T
        if self.bias is not None:
            result = result + self.bias
        return np.tanh(result) if self.tanh else result


@dataclass(frozen=True, slots=True)
class Export:
    """A model's files, and how it is used."""

    weights: Path
    max_tokens: int | None
    """None: the tokenizer's own limit, or MAX_TOKENS."""
    lower_case: bool
    pooling: tuple[str, ...]
    """Empty if the folder doesn't say."""
    include_prompt: bool
    """Whether the tokens of a prompt are pooled like those of the text."""
    layers: tuple[Dense, ...]
    normalize: bool
    prompts: Mapping[Purpose, str]
    """What is put before a text if the pipeline doesn't say."""


def read_export(path: Path) -> Export:
    """Read a folder, or the folder of the .onnx file that `path` names.

    Raises Misconfigured if a file can't be read, or asks for something that isn't supported.
    """
    root = root_of(path)
    modules = list(_modules(root))
    pooling = _Options.of(next((root / at / "config.json" for kind, at in modules if kind == "Pooling"), None))
    transformer = _Options.of(root / "sentence_bert_config.json")
    return Export(
        weights=_weights(path),
        max_tokens=_max_tokens(root, transformer),
        lower_case=transformer.get("do_lower_case", bool) or False,
        pooling=_pooling(pooling),
        include_prompt=pooling.get("include_prompt", bool) is not False,
        layers=tuple(_dense(root / at) for kind, at in modules if kind == "Dense"),
        normalize=any(kind == "Normalize" for kind, _ in modules),
        prompts=prompts_of(path),
    )


def prompts_of(path: Path) -> dict[Purpose, str]:
    """Read the prompts, which are empty if the folder has none. Raises Misconfigured like `read_export`."""
    return _prompts(_Options.of(root_of(path) / "config_sentence_transformers.json"))


def root_of(path: Path) -> Path:
    """Return the model's folder. An .onnx file is often below it: `onnx/model_qint8_avx512_vnni.onnx`."""
    if path.suffix != ".onnx":
        return path
    return next((folder for folder in path.parents[:2] if _is_file(folder / "tokenizer.json")), path.parent)


def load(path: Path, read: Callable[[str], Any]) -> Any:
    """Return `read(path)`. Raises Misconfigured with the file's name if it is missing or can't be read."""
    if not _is_file(path):
        problem = f"the local model's folder has no {path.name}, or this user may not read it"
    else:
        try:
            return read(str(path))
        except Exception:  # noqa: BLE001 the libraries' errors have no common base
            problem = f"the local model's {path.name} can't be read"
    raise unusable(problem)


def _is_file(path: Path) -> bool:
    """Whether there is a file that this user can see. A forbidden folder or an overlong name is no error."""
    try:
        return path.is_file()
    except OSError:
        return False


def unusable(problem: str, *, hint: str = _HINT) -> Misconfigured:
    return Misconfigured(problem, code="model_not_found", option="model", elsewhere=True, hint=hint)


def _weights(path: Path) -> Path:
    if path.suffix == ".onnx":
        return path
    inner = path / "onnx" / "model.onnx"
    return inner if _is_file(inner) and not _is_file(path / "model.onnx") else path / "model.onnx"


@dataclass(frozen=True, slots=True)
class _Options:
    """The options in a JSON file; none if there is no such file."""

    file: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path | None) -> _Options:
        if path is None or not _is_file(path):
            return cls("", {})
        return cls(path.name, load(path, lambda name: dict(json.loads(Path(name).read_bytes()))))

    def get(self, name: str, kind: type[_T]) -> _T | None:
        """Return an option, None if it isn't set. Raises Misconfigured if it is of another type."""
        value = self.values.get(name)
        if value is None or (isinstance(value, kind) and isinstance(value, bool) is (kind is bool)):
            return value
        raise self.invalid(name)

    def invalid(self, name: str) -> Misconfigured:
        return unusable(f"the local model's {self.file} has an invalid {name}")


def _modules(root: Path) -> Iterator[tuple[str, str]]:
    """Yield kind and folder of each step after the transformer, in order."""
    path = root / "modules.json"
    if not _is_file(path):
        yield from (("Pooling", "1_Pooling"), ("Normalize", ""))
        return
    listed = load(
        path, lambda name: [(str(each["type"]), str(each["path"])) for each in json.loads(Path(name).read_bytes())]
    )
    for full_name, folder in listed:
        kind = full_name.rsplit(".", 1)[-1]
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize", "Dropout"):
            raise unusable(
                f"the local model's modules.json asks for {kind}, which isn't supported",
                hint="use a model of Transformer, Pooling, Dense and Normalize, or run it behind an HTTP endpoint",
            )
        yield kind, folder


def _pooling(options: _Options) -> tuple[str, ...]:
    named = options.values.get("pooling_mode")
    if named is None:
        modes = [mode for key, mode in OLD_NAMES.items() if options.get(key, bool)]
        # as sentence-transformers reads a file in which every mode is off
        modes = modes or ["mean"] * bool(OLD_NAMES.keys() & options.values.keys())
    else:
        modes = named if isinstance(named, list) else [named]
    for mode in modes:
        if not isinstance(mode, str) or mode not in POOLINGS:
            raise unusable(
                "the local model's 1_Pooling/config.json names a pooling that isn't supported",
                hint=f"supported: {', '.join(POOLINGS)}",
            )
    return tuple(modes)


def _max_tokens(root: Path, transformer: _Options) -> int | None:
    configured = transformer.get("max_seq_length", int)
    if configured is not None:
        if not 0 < configured < _NO_LIMIT:
            raise transformer.invalid("max_seq_length")
        return configured
    limits = (
        _Options.of(root / "tokenizer_config.json").values.get("model_max_length"),  # 1e30 in some files
        _Options.of(root / "config.json").get("max_position_embeddings", int),
    )
    numbers = (limit for limit in limits if isinstance(limit, int | float))
    return min((int(limit) for limit in numbers if 1 <= limit < _NO_LIMIT), default=None)


def _prompts(options: _Options) -> dict[Purpose, str]:
    prompts = _Options(options.file, options.get("prompts", dict) or {})
    default = prompts.get(options.get("default_prompt_name", str) or "", str)

    def of(names: Sequence[str]) -> str:
        return next((prompt for name in names if (prompt := prompts.get(name, str)) is not None), default) or ""

    return {purpose: of(names) for purpose, names in PROMPTS.items()}


def _dense(folder: Path) -> Dense:
    from safetensors.numpy import load_file

    options = _Options.of(folder / "config.json")
    activation = (options.get("activation_function", str) or "Tanh").rsplit(".", 1)[-1]
    reads = options.get("module_input_name", str)
    if activation not in ("Identity", "Tanh") or reads not in (None, "sentence_embedding"):
        raise unusable(
            f"the local model's {folder.name}/config.json asks for a layer that isn't supported",
            hint="use a model whose Dense layers are linear or tanh, or run it behind an HTTP endpoint",
        )
    tensors = load(folder / "model.safetensors", load_file)
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or weight.ndim != 2:
        raise unusable(f"the local model's {folder.name}/model.safetensors has no linear.weight")
    bias = None if bias is None else bias.astype(np.float32)
    return Dense(weight.astype(np.float32), bias, tanh=activation == "Tanh")
