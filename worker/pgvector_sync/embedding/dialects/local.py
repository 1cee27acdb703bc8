"""The dialect of models that run in this process: no address, no key, no cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from pgvector_sync.embedding.dialects.dialect import Connection, Dialect, Limits
from pgvector_sync.embedding.local_models.cores import threads_per_caller
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings

ONNX_PREFIX = "onnx:"
"""Before the folder in the model's name."""
MAX_INPUTS = 64
"""Texts per request. The deadline is checked between requests."""


class Local(Dialect):
    name = "local"
    built_in = Provider("local", dialect="local")
    needs_address = False
    takes_key = False
    remote = False
    billed = False
    default_model = "wordllama"

    def limits(self, provider: Provider) -> Limits:
        return Limits(max_inputs=MAX_INPUTS).overridden(provider)

    def place(self, provider: Provider, settings: Settings | None = None) -> str:
        del provider, settings
        return "in this process"

    def setting_of_place(self, provider: Provider, settings: Settings) -> str:
        del provider, settings
        return "the pipeline's model"

    def connect(self, provider: Provider, settings: Settings, environ: Mapping[str, str]) -> Connection:
        del provider, environ
        from pgvector_sync.embedding.local_models.models import LocalModels

        return LocalModels(threads=settings.local_threads or threads_per_caller())

    def adapts(self, spec: Spec) -> bool:
        """Whether an ONNX folder, if it is on this machine, brings prompts of its own."""
        if not spec.model.startswith(ONNX_PREFIX):
            return False
        from pgvector_sync.embedding.local_models.onnx_folder import prompts_of

        try:
            return any(prompts_of(Path(spec.model.removeprefix(ONNX_PREFIX))).values())
        except Misconfigured:
            return False

    def default_dimensions(self, model: str | None) -> int:
        from pgvector_sync.embedding.local_models.models import FIXED_SIZES

        return FIXED_SIZES.get(model or self.default_model, FIXED_SIZES[self.default_model])[-1]

    def check_specs(self, specs: Iterable[Spec]) -> Iterator[Misconfigured | None]:
        from pgvector_sync.embedding.local_models.models import check_dimensions, load_model, sizes_of

        sizes, load = cache(sizes_of), cache(load_model)
        for spec in specs:
            try:
                check_dimensions(spec.dimensions, sizes(spec.model))
                if spec.prefix:
                    load(spec.model).check_prompt(spec.prefix)
            except Misconfigured as failure:
                yield failure
            else:
                yield None
