from hypothesis import example, given
from hypothesis import strategies as st

from seq2seq.data.splitting import split_to_fit


@given(st.text(max_size=300) | st.text("ab .,!\"')”」。，", max_size=60), st.integers(1, 20))
@example('He said "Now." Then (he did.) left', 20)
def test_parts_fit_and_nothing_but_white_space_is_lost(text: str, longest: int) -> None:
    parts = split_to_fit(text, lambda part: len(part) <= longest)
    assert all(len(part) <= longest for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_prefers_sentences_then_clauses_then_spaces() -> None:
    assert split_to_fit("One two three. Four five six.", lambda part: len(part) < 20) == ["One two three.", "Four five six."]
    assert split_to_fit("one two, three four five six", lambda part: len(part) < 22) == ["one two,", "three four five six"]
    assert split_to_fit("one two three four", lambda part: len(part) < 12) == ["one two", "three four"]
    assert split_to_fit("今日は晴れ。明日は雨。", lambda part: len(part) < 8) == ["今日は晴れ。", "明日は雨。"]
    assert split_to_fit('"One two three." Four five six.', lambda part: len(part) < 20) == ['"One two three."', "Four five six."]
    assert split_to_fit("「今日は晴れ。」明日は雨。", lambda part: len(part) < 10) == ["「今日は晴れ。」", "明日は雨。"]


def test_a_very_long_text_is_split_quickly() -> None:
    parts = split_to_fit("word " * 200_000, lambda part: len(part) <= 1000)
    assert sum(part.count("word") for part in parts) == 200_000
