from io import StringIO

import pytest
from rich.console import Console

from seq2seq.cli.beginning import Beginning
from seq2seq.errors import DataProblem
from seq2seq.training.schedule import Constant, InverseSquareRoot, LinearDecay, Noam, Schedule


@pytest.mark.parametrize(
    ("norm_order", "rate", "warns"),
    [("deep", 0.004, True), ("deep", 0.001, False), ("pre", 0.004, False), ("post", 0.004, False)],
)
def test_a_rate_that_may_teach_nothing_is_remarked_upon(norm_order: str, rate: float, warns: bool) -> None:
    said = shown(LinearDecay(rate), 100, norm_order)
    assert f"at most {rate}" in said
    assert ("schedule.learning_rate=0.001" in said) == warns
    if warns:
        with pytest.raises(DataProblem, match="norm_order"):
            Beginning(Console(file=StringIO()), strict=True).rate(LinearDecay(rate), 128, 100, norm_order)


@pytest.mark.parametrize(
    ("schedule", "steps", "warns"),
    [
        (Noam(4000), 1000, True),
        (Noam(4000), 4001, False),
        (InverseSquareRoot(warmup_steps=800), 800, True),
        (Constant(warmup_steps=10), 9, True),
        (Constant(warmup_steps=10), 11, False),
        (LinearDecay(warmup_steps=800), 100, False),  # which warms up for a tenth of the run at most
        (LinearDecay(), 1, False),
    ],
)
def test_a_run_that_ends_while_it_warms_up_is_remarked_upon(schedule: Schedule, steps: int, warns: bool) -> None:
    assert ("still rises when the run ends" in shown(schedule, steps, "pre")) == warns


def shown(schedule: Schedule, steps: int, norm_order: str) -> str:
    page = StringIO()
    Beginning(Console(file=page, width=300), strict=False).rate(schedule, 128, steps, norm_order)
    return page.getvalue()
