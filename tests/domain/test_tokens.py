"""The estimate of tokens; tests/trainer/test_real_training.py compares it with a tokenizer."""

from __future__ import annotations

from reconciler.domain.tokens import TokenCount, estimate_tokens

ESTIMATES = {
    "nothing": ("", 0),
    "frequent words": ("the answer", 2),
    "punctuation": ("yes, no!", 4),
    "a group of punctuation": ("yes...", 3),
    "digits": ("12345", 5),
    "a number after a space": ("question 12", 4),
    "lines": ("yes\nno\n\n  no", 5),
    "another word in English text": ("the best kettle in the world", 6),
    "the same word alone": ("kettle", 2),
    "German": ("Gutschrift", 4),
    "Polish": ("paczkę", 4),
    "Russian": ("привет", 6),
    "Chinese": ("感谢您的来信", 11),
    "Korean": ("감사합니다", 14),
    "emoji": ("😀🎉", 6),
    "an unpaired surrogate": ("\ud800", 1),
}


def test_tokens_are_estimated_from_bytes_and_words() -> None:
    found = {name: (text, estimate_tokens(text)) for name, (text, _) in ESTIMATES.items()}
    assert found == ESTIMATES


def test_texts_that_are_joined_count_as_several() -> None:
    joined = TokenCount()
    joined.add("question 1\n2\nyes, please\n3", texts=4)
    assert joined.tokens == estimate_tokens("question 1", "2", "yes, please", "3") == 8


def test_of_many_texts_a_sample_from_all_parts_is_counted() -> None:
    answer = "ok"
    parts = [("the answer to question 12 is yes " * 80, 600), ("ответ на вопрос да " * 60, 1_400)]
    many = TokenCount()
    for text, examples in parts:
        for _ in range(examples):
            many.add(text)
            many.add(answer)
    alone = sum(examples * (estimate_tokens(text) + estimate_tokens(answer)) for text, examples in parts)
    assert abs(many.tokens / alone - 1) < 0.1, (many.tokens, alone)
