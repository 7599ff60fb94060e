"""What is kept between commands, by several of them at once."""

import threading
from pathlib import Path

import pytest

from seq2seq.folders import cache_folder, remembered


def test_processes_that_share_a_cache_do_not_trip_over_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them has half made may be finished, and gone from its temporary name, at any moment."""
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(150):
                remembered("kept", f"{name}{i}", lambda folder: (folder / "text").write_text("x"))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(list((tmp_path / "kept").iterdir())) == 450


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SEQ2SEQ_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(OSError, match="set SEQ2SEQ_CACHE=DIR"):
        cache_folder("kernels")
