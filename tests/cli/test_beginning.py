from io import StringIO

import pytest
from rich.console import Console

from seq2seq.cli.beginning import Beginning
from seq2seq.errors import DataProblem


@pytest.mark.parametrize(
    ("norm_order", "rate", "warns"),
    [("deep", 0.004, True), ("deep", 0.001, False), ("pre", 0.004, False), ("post", 0.004, False)],
)
def test_a_rate_that_may_teach_nothing_is_remarked_upon(norm_order: str, rate: float, warns: bool) -> None:
    shown = StringIO()
    Beginning(Console(file=shown, width=300), strict=False).rate(rate, norm_order)
    assert f"at most {rate}" in shown.getvalue()
    assert ("schedule.learning_rate=0.001" in shown.getvalue()) == warns
    if warns:
        with pytest.raises(DataProblem, match="norm_order"):
            Beginning(Console(file=shown), strict=True).rate(rate, norm_order)
