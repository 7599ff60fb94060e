import signal
import subprocess
import sys

import pytest
import torch

from seq2seq.errors import BundleProblem, ConfigProblem, DataProblem, DivergedProblem, MachineProblem, Problem, guard


@pytest.mark.parametrize(
    ("problem", "code"),
    [(Problem, 1), (ConfigProblem, 2), (DataProblem, 3), (BundleProblem, 4), (MachineProblem, 5), (DivergedProblem, 6)],
)
def test_a_problem_is_two_lines_and_an_exit_code(problem: type[Problem], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, guard():
        raise problem("the \x1b[31mfile is odd", "mend it")
    assert ended.value.code == code
    assert capsys.readouterr().err == "error: the \\x1b[31mfile is odd\nfix: mend it\n"


def test_a_problem_of_memory_keeps_its_fix(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), guard():
        raise MachineProblem("out of memory at step 7", "a smaller model")
    assert capsys.readouterr().err == "error: out of memory at step 7\nfix: a smaller model\n"


def test_control_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, guard():
        raise KeyboardInterrupt
    assert ended.value.code == 130


def test_our_own_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), guard():
        _ = 1 / 0


def test_memory_that_runs_out_is_a_problem_of_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
    ):
        with pytest.raises(SystemExit) as ended, guard():
            raise error
        assert ended.value.code == MachineProblem.exit_code
        assert "memory" in capsys.readouterr().err.splitlines()[0]
    with pytest.raises(RuntimeError, match="shapes"), guard():
        raise RuntimeError("shapes do not fit")


def test_a_closed_pipe_is_quiet() -> None:
    program = "from seq2seq.errors import guard\nwith guard():\n    for i in range(100000): print(i)"
    done = subprocess.run(
        f"{sys.executable} -c '{program}' | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "0\n", "")


def test_a_crash_in_a_library_says_where_it_was() -> None:
    program = "import faulthandler\nfrom seq2seq.errors import guard\nwith guard(): faulthandler._sigsegv()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr
    assert 'File "<string>", line 3' in done.stderr
