"""The default local model gives the same vectors on every version of Python, numpy and wordllama."""

from __future__ import annotations

import hashlib
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pgvector_sync.errors import Misconfigured
from support.texts import awkward_texts

pytestmark = pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")


# Of what 3.11 gives, with the wheels 0.2.2.post0 and 0.4.0.post1 alike.
TOKEN_IDS = "89732eb4565912d55f71b71e933dc9999eb93751121d2c02375ccad64eaf5182"
VECTORS = "0d3535dbf928c6209a9a51d29b402dc7cabd49b07fb0c44c4054056dff63aca0"


@pytest.fixture(scope="module")
def model():
    from pgvector_sync.embedding.local_models.wordllama_model import WordLlamaModel

    return WordLlamaModel()


@pytest.fixture
def files(tmp_path):
    """A copy of the model's two files."""
    from pgvector_sync.embedding.local_models.wordllama_model import TOKENIZER, WEIGHTS

    [package] = find_spec("wordllama").submodule_search_locations
    for name in (WEIGHTS, TOKENIZER):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes((Path(package) / name).read_bytes())
    return tmp_path / WEIGHTS, tmp_path / TOKENIZER


def load(folder):
    from pgvector_sync.embedding.local_models.wordllama_model import WordLlamaModel

    return WordLlamaModel(folder)


def test_the_token_ids_are_the_same_everywhere(model):
    digest = hashlib.sha256()
    for ids in model.tokenize(awkward_texts()):
        digest.update(np.array([len(ids), *ids], dtype="<u4").tobytes())
    assert digest.hexdigest() == TOKEN_IDS


def test_the_vectors_are_the_same_to_the_last_bit_everywhere(model):
    pooled = model.encode(awkward_texts()).vectors
    assert hashlib.sha256(pooled.astype("<f4").tobytes()).hexdigest() == VECTORS


def test_a_newline_at_the_end_of_the_tokenizers_file_is_accepted(files, tmp_path):
    tokenizer = files[1]
    tokenizer.write_bytes(tokenizer.read_bytes().rstrip() + b"\n")
    assert load(tmp_path).tokenize(["the cat"]) == [[278, 6635]]


@pytest.mark.parametrize("which", [0, 1], ids=["weights", "tokenizer"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_other_weights_or_another_tokenizer_are_never_used_under_the_same_name(files, tmp_path, which, how):
    if how == "missing":
        files[which].unlink()
    else:
        content = bytearray(files[which].read_bytes())
        content[len(content) // 2] ^= 1
        files[which].write_bytes(content)
    with pytest.raises(Misconfigured) as caught:
        load(tmp_path)
    assert caught.value.code == "model_not_found"
    assert "--force-reinstall 'pgvector-sync[local]'" in caught.value.hint


def test_every_python_gets_the_same_release_of_wordllama():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    [wanted] = [each for each in project["optional-dependencies"]["local"] if each.startswith("wordllama")]
    assert re.fullmatch(r"wordllama==\S+", wanted)
