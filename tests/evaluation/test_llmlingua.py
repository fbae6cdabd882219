"""LLMLingua-2 on a tiny random classifier: the rate, forced words, long texts, and the context alone."""

import json
import time

import pytest
import torch
from small_records import LAYERS, small_model, small_records, small_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from sdtp_lib.data.demo.corpus import longbench_mini
from sdtp_lib.evaluation.answers import encode_record
from sdtp_lib.evaluation.bootstrap import table1
from sdtp_lib.evaluation.compare import compare
from sdtp_lib.evaluation.llmlingua import WORDS, Compressor, at_budget, compress_records
from sdtp_lib.pruning.schedule import PruningSchedule

TEXT = longbench_mini("multidoc_qa", 1, seed=7, tokens=(300, 300))[0]["context"]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]


def save_classifier(folder, labels=2):
    """A random BERT of two layers whose pieces are single letters, so that every word has several tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *".,:?_()=>#[]+"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    BertForTokenClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("llmlingua"))


@pytest.fixture(scope="module")
def compressor(folder):
    return Compressor.load(folder, device="cpu", max_tokens=128)


def count(compressor, text):
    return len(compressor.tokenizer(text, add_special_tokens=False)["input_ids"])


def words_of(text):
    return [word.strip() for word in WORDS.findall(text) if word.strip()]


@pytest.mark.parametrize("rate", [0.1, 0.33, 0.66, 0.9])
def test_the_rate_is_met_by_whole_words_in_order(compressor, rate):
    short = compressor.compress(TEXT, rate)
    longest = max(count(compressor, word) for word in words_of(TEXT))
    assert rate * count(compressor, TEXT) - longest < count(compressor, short) <= rate * count(compressor, TEXT)
    rest = iter(words_of(TEXT))
    assert all(word in rest for word in words_of(short))  # a subsequence of the words
    assert short.count("\n") == TEXT.count("\n")


def test_everything_stays_at_rate_one_and_something_at_any(compressor):
    for text in (TEXT, " a  b\t\n\n c _d ", "", "\n", "word", "naïve — 日本"):
        assert compressor.compress(text, 1.0) == text
    assert words_of(compressor.compress("alpha beta\ngamma", 1e-6))  # the forced line end alone is no context
    for rate in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="rate must be"):
            compressor.compress(TEXT, rate)


def test_forced_words_always_stay(folder):
    plain = Compressor.load(folder, device="cpu", forced=())
    forced = Compressor.load(folder, device="cpu", forced=("The", "?", "\n"))
    text = "The city of Anna is Oslo. Is it?\nThe tool."
    assert [words_of(forced.compress(text, 0.01)).count(word) for word in ("The", "?")] == [2, 1]
    assert words_of(forced.compress(text, 0.01)) == ["The", "?", "The"]
    assert len(words_of(plain.compress(text, 0.01))) == 1


def test_words_are_ranked_by_the_mean_over_their_tokens(compressor, monkeypatch):
    seen = []

    def classify(self, pieces):
        seen.extend(pieces)
        return [{"a": 0.9, "b": 0.5, "c": 0.1}[self.tokenizer.decode([i])[-1]] for piece in pieces for i in piece]

    monkeypatch.setattr(Compressor, "_classify", classify)
    # means: 0.5, 0.7, 0.9, 0.1, 0.5 over 2, 2, 1, 3, 1 tokens
    assert compressor.compress("ac ab a ccc b", 4 / 9) == " ab a b"  # of two equal ones the later, as it fits
    assert compressor.compress("ac ab a ccc b", 6 / 9) == "ac ab a b"
    assert compressor.compress("ac ab a ccc b", 1 / 9) == " a"


def test_long_texts_are_read_in_pieces_that_end_with_sentences(folder, monkeypatch):
    lengths, classify = [], Compressor._classify
    ends = []

    def watch(self, pieces):
        lengths.extend(map(len, pieces))
        ends.extend(self.tokenizer.decode([piece[-1]]) for piece in pieces)
        return classify(self, pieces)

    monkeypatch.setattr(Compressor, "_classify", watch)
    small = Compressor.load(folder, device="cpu", max_tokens=100, batch_size=3)
    small.compress(TEXT, 0.5)
    assert sum(lengths) == count(small, TEXT) and max(lengths) <= 98 and len(lengths) > 10
    assert sum(end == "." for end in ends) > len(ends) / 2
    lengths.clear()
    small.compress("x" * 90 + " " + "y" * 90 + " z", 0.5)  # no sentence ends here: whole words
    assert lengths == [90, 91]
    assert small.tokenizer("q" * 150, add_special_tokens=False)["input_ids"] == [3]  # WordPiece gives up on these


def test_a_piece_scores_alike_alone_and_in_a_batch(folder):
    alone, together = (
        Compressor.load(folder, device="cpu", max_tokens=100, batch_size=size)._probabilities(WORDS.findall(TEXT))
        for size in (1, 8)
    )
    assert alone[0] == together[0]
    torch.testing.assert_close(torch.tensor(alone[1]), torch.tensor(together[1]))
    assert 0 < max(alone[1]) <= 1


def test_records_keep_all_but_their_context(compressor):
    records = small_records(each=1)
    before = json.dumps(records)
    start = time.perf_counter()
    compressed, seconds = compress_records(records, compressor, 0.5)
    assert 0 < seconds <= time.perf_counter() - start
    assert json.dumps(records) == before
    for old, new in zip(records, compressed, strict=True):
        assert {**new, "context": old["context"]} == old
        assert new["context"] == compressor.compress(old["context"], 0.5) != old["context"]


def test_what_is_no_such_model_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no LLMLingua-2 model"):
        Compressor.load(tmp_path)
    with pytest.raises(ValueError, match="two classes, this model has 3"):
        Compressor.load(save_classifier(tmp_path / "three", labels=3), device="cpu")
    model = BertForTokenClassification.from_pretrained(folder)
    model.bert.save_pretrained(tmp_path / "bare")  # no classifier on it
    Compressor.load(folder, device="cpu").tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="lack classifier"):
        Compressor.load(tmp_path / "bare", device="cpu")
    pickled = save_classifier(tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="no LLMLingua-2 model .*pickled"):
        Compressor.load(pickled, device="cpu")


def test_a_row_of_table_1_at_the_budget_of_the_schedule(folder):
    model, records = small_model(), small_records(each=1)
    shorten = at_budget(folder, model)
    assert list(shorten) == ["llmlingua2"] and at_budget(None, model) == {}
    short, seconds = shorten["llmlingua2"](records)
    schedule = PruningSchedule.preset("paper", LAYERS)
    rate = sum(schedule.lengths(512, LAYERS)) / (512 * LAYERS)
    compressor = Compressor.load(folder, device="cpu")
    assert seconds > 0 and rate < 1
    assert [row["context"] for row in short] == [compressor.compress(r["context"], rate) for r in records]


def test_the_rows_prompts_count_with_the_tokens_they_had_before(folder, tmp_path):
    model, tokenizer, records = small_model(), small_tokenizer(), small_records(each=1)
    shorten, options = at_budget(folder, model), {"folder": tmp_path, "methods": ["full"]}
    found = compare(model, tokenizer, records, shorten=shorten, **options)
    full, row = found["full"], found["llmlingua2"]
    assert row["prompt_tokens"] == full["prompt_tokens"] and full["compression"] == 1
    short = [len(encode_record(model, tokenizer, record)[1]) for record in shorten["llmlingua2"](records)[0]]
    assert row["tokens_per_layer"] == [sum(short) / len(short)] * LAYERS
    assert row["compression"] == pytest.approx(full["prompt_tokens"] * len(short) / sum(short), abs=1e-3)
    assert row["compression"] > 1.02
    assert row["against_full"]["average"]["n"] == len(records)
    assert list(table1(found)["method"]) == ["full", "llmlingua2"]
    assert compare(model, tokenizer, records, shorten=shorten, **options) == found  # from the files
