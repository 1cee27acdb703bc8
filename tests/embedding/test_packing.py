from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.openai_compatible import LIMITS
from pgvector_sync.embedding.packing import pack as pack_counted
from pgvector_sync.embedding.tokens import byte_bound
from pgvector_sync.model import Spec


def pack(texts, limits=LIMITS):
    octets = [byte_bound(text) for text in texts]
    return pack_counted(octets, octets, limits)


def test_a_small_batch_is_one_request():
    assert pack(["a", "b", "c"]) == [[0, 1, 2]]


def test_no_texts_need_no_request():
    assert pack([]) == []


def test_a_request_holds_no_more_inputs_than_the_provider_takes():
    assert [len(some) for some in pack(["a"] * (LIMITS.max_inputs + 1))] == [LIMITS.max_inputs, 1]


def test_a_request_holds_no_more_tokens_than_the_provider_takes():
    texts = ["a" * 8_000] * 38
    assert [len(some) for some in pack(texts)] == [37, 1]


def test_a_text_that_may_be_too_long_is_sent_alone_and_separates_no_others():
    assert pack(["a", "b" * (LIMITS.max_input_tokens + 1), "c"]) == [[1], [0, 2]]


def test_bytes_are_counted_and_not_characters():
    assert byte_bound("日本") == 6
    assert pack(["a", "日" * 3_000]) == [[1], [0]]


@given(st.lists(st.tuples(st.sampled_from(["a", "ü", "日", "🙂"]), st.integers(0, 9_000)), max_size=120))
def test_every_text_goes_out_once_in_order_and_within_the_limits(shapes):
    texts = [character * length for character, length in shapes]
    requests = pack(texts)
    assert sorted(position for some in requests for position in some) == list(range(len(texts)))
    for some in requests:
        assert some == sorted(some)
        bounds = [byte_bound(texts[position]) for position in some]
        assert len(some) == 1 or (
            len(some) <= LIMITS.max_inputs
            and sum(bounds) <= LIMITS.max_request_tokens
            and max(bounds) <= LIMITS.max_input_tokens
        )


def test_a_small_budget_makes_smaller_requests():
    limits = Limits(max_inputs=10, max_request_tokens=1_000)
    assert pack_counted([400] * 5, [1_600] * 5, limits) == [[0, 1], [2, 3], [4]]


def test_a_learned_limit_of_bytes_cuts_even_where_tokens_are_not_counted():
    assert pack_counted([0] * 5, [400] * 5, Limits(max_inputs=10, max_request_bytes=1_000)) == [
        [0, 1],
        [2, 3],
        [4],
    ]


def test_a_text_that_is_longer_than_a_learned_limit_is_sent_alone():
    assert pack(["a", "b" * 50, "c"], Limits(max_inputs=10, max_request_bytes=10)) == [[0], [1], [2]]


def test_only_the_first_request_of_several_texts_is_a_trial():
    first = Limits(max_inputs=4, max_input_tokens=10)
    texts = ["too long for an input", *"abcdefgh"]
    assert pack_counted([byte_bound(text) for text in texts], [1] * 9, Limits(2, None, 10), first=first) == [
        [0], [1, 2, 3, 4], [5, 6], [7, 8],
    ]  # fmt: skip


def test_tokens_without_a_limit_cut_nothing():
    assert pack(["a" * 1_000_000] * 3, Limits(max_inputs=2)) == [[0, 1], [2]]


def test_texts_within_a_models_window_share_a_request_although_they_have_more_bytes_than_it_has_tokens(
    open_caller, endpoint
):
    embed = open_caller(endpoint.base_url, max_input_tokens=2_048, max_request_tokens=16_384)
    texts = [f"{number} " + "plain words " * 250 for number in range(12)]  # 3 kB, 750 tokens
    embed(texts, Spec("text-embedding-without-a-tokenizer", 8))
    assert endpoint.calls.requests == 2
