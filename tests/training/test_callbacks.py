"""What is counted during training."""

import time

import pytest

from seq2seq.training.callbacks import Meter


def test_a_meter_that_goes_on_measures_the_time_before_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    before = Meter()
    before.add({"source_tokens": 600, "target_tokens": 400, "nll": 1.0})
    now = 1010.0
    state, now = before.state_dict(), 5000.0
    after = Meter()
    after.load_state_dict(state)
    assert after.tokens_per_second == pytest.approx(100)
    now = 5010.0
    assert after.tokens_per_second == pytest.approx(50)
    after.load_state_dict({name: value for name, value in state.items() if name != "seconds"})  # of an earlier release
    assert after.loss == before.loss
