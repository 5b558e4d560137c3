import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from conftest import tiny_tokenizer
from smedit.data.facts import EditRequest, Prompt
from smedit.engine.batches import edit_batch
from smedit.engine.model_trial import try_tokenizer
from smedit.engine.scores import Scorer
from smedit.engine.tokenization import KnownTokens, cut, tokenize
from smedit.errors import UserError

TEXTS = ["the capital of Arvo is Quill", "Paris is the capital of France"] * 9


def byte_level(post_processor=None, merge_over_spaces=False):
    inner = Tokenizer(models.BPE())
    if not merge_over_spaces:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    if post_processor:
        inner.post_processor = post_processor
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def with_dummy_prefix(scores=None):
    """As sentencepiece's with a dummy prefix: every text gets a ▁ in front."""
    vocabulary = ("<unk>", "▁", "▁the", "▁is", "▁Paris", "▁capital")
    scores = scores or [(token, -float(i)) for i, token in enumerate(vocabulary)]
    inner = Tokenizer(models.Unigram(scores, unk_id=0))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def end_of_text():
    ends = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return byte_level(ends)


@pytest.mark.parametrize("tokenizer", [byte_level(), tiny_tokenizer()])
def test_a_tokenizer_that_is_right_gives_the_same_tokens_as_its_parts(tokenizer):
    ids = cut(tokenizer, "the capital of Arvo is", " Quill")
    assert ids.prompt == tokenizer("the capital of Arvo is").input_ids
    assert ids.answer == tokenizer(" Quill", add_special_tokens=False).input_ids
    assert ids.of_joint_text


def test_a_space_that_opens_every_text_is_no_token_of_the_answer():
    tokenizer = with_dummy_prefix()
    alone = tokenizer(" Paris", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(alone.input_ids) == ["▁", "▁Paris"]
    sequence = tokenize(tokenizer, "the capital is", "Paris")
    assert tokenizer.convert_ids_to_tokens(list(sequence.answer_ids)) == ["▁Paris"]
    joint = tokenizer("the capital is Paris").input_ids
    assert [*sequence.input_ids, sequence.answer_ids[-1]] == joint


def test_no_end_of_text_stands_between_prompt_and_answer():
    tokenizer = end_of_text()
    sequence = tokenize(tokenizer, "the capital of Arvo is", "Quill")
    joint = tokenizer("the capital of Arvo is Quill").input_ids
    assert joint[-1] == 1
    assert [*sequence.input_ids, sequence.answer_ids[-1]] == joint[:-1]


def test_training_and_scoring_respect_what_stands_between():
    tokenizer = byte_level()
    prompt = Prompt('they call it "', "Quill", "Paris", between="")
    request = EditRequest("it", prompt, (prompt,), (prompt,), None)
    batch = edit_batch([request], tokenizer, minibatch=4)
    for part in (batch.edit, batch.paraphrase, batch.locality):
        assert tokenizer.decode(part.sequences[0].answer_ids) == "Quill"
    answers = {tokenizer.decode(s.answer_ids) for s in Scorer([request], tokenizer).sequences}
    assert answers == {"Quill", "Paris"}


def test_what_a_tokenizer_would_join_is_kept_apart_and_counted():
    tokenizer = byte_level(merge_over_spaces=True)
    assert len(tokenizer("the capital of Arvo is Quill").input_ids) == 1  # one token, over spaces
    known = KnownTokens(lambda: tokenizer)
    sequence = tokenize(known, "the capital of", "Arvo")
    assert tokenizer.decode([*sequence.input_ids, sequence.answer_ids[-1]]) == "the capital of Arvo"
    assert sequence.answer_ids == tuple(tokenizer(" Arvo").input_ids)
    assert known.kept_apart == 1


def test_known_tokens_are_not_asked_for_again():
    known = KnownTokens(byte_level)
    first = tokenize(known, "the capital of Arvo is", "Quill")

    def never():
        raise AssertionError("the tokenizer is loaded")

    again = KnownTokens(never, known.as_json())
    assert tokenize(again, "the capital of Arvo is", "Quill") == first


def test_without_a_space_a_joined_answer_is_kept_apart_with_sentencepiece_too():
    vocabulary = ["<unk>", "▁", "▁国", "国", "是", "北京", "是北京", "▁.", "."]
    scores = [(token, -float(len(vocabulary) - i)) for i, token in enumerate(vocabulary)]
    tokenizer = with_dummy_prefix(scores)
    joint = tokenizer.convert_ids_to_tokens(tokenizer("国是北京").input_ids)
    assert joint == ["▁国", "是北京"]
    ids = cut(tokenizer, "国是", "北京")
    assert tokenizer.convert_ids_to_tokens(ids.answer) == ["北京"]
    assert not ids.of_joint_text


def test_a_text_without_tokens_is_refused():
    inner = Tokenizer(models.BPE({"<s>": 0, "A": 1, "B": 2}, []))
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")
    assert tokenize(tokenizer, "A", "B", between="").input_ids == (0, 1)
    with pytest.raises(UserError, match="prompt of 'c' → 'A' has no tokens"):
        tokenize(tokenizer, "c", "A", between="")


class Lossy:
    """Gives the end of a joint text other tokens, and none of its text back."""

    def __call__(self, text, add_special_tokens=True):
        from types import SimpleNamespace

        return SimpleNamespace(input_ids=[len(text), *range(len(text))])

    def decode(self, ids):
        return str(ids)


def test_a_tokenizer_that_cannot_tell_the_answer_is_refused():
    with pytest.raises(UserError, match=r"runs the prompt 'ab' into the answer 'c'"):
        cut(Lossy(), "ab", " c")
    with pytest.raises(UserError, match=r"model 'm': the tokenizer runs the prompt"):
        try_tokenizer("m", Lossy())


@pytest.mark.parametrize(("tokenizer", "said"), [(byte_level(), False), (end_of_text(), True)])
def test_cutting_from_the_joint_text_is_logged(tokenizer, said, caplog):
    caplog.set_level("INFO", logger="smedit")
    try_tokenizer("m", tokenizer)
    assert ("cut from the joint texts" in caplog.text) == said
