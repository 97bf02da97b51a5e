import os
import pickle

import pytest
from worker_functions import describe, die_when_told, fail_at_two, leave_a_trace, square

from tracer.workers import WorkerDiedError, Workers, executor_of, run_tasks


@pytest.mark.parametrize("workers", [0, 1])
def test_run_tasks__with_one_worker_runs_here_and_in_order(workers):
    closure = []  # could not be sent to another process
    results = run_tasks(lambda n: (closure.append(n), os.getpid())[1], [3, 1, 2], workers)
    assert closure == []
    assert list(results) == [(i, os.getpid()) for i in range(3)]
    assert closure == [3, 1, 2]


def test_run_tasks__without_tasks_yields_nothing():
    assert list(run_tasks(square, [], 1)) == []
    with Workers(4) as pool:
        assert list(pool.run(square, [])) == []


@pytest.mark.slow
def test_workers__are_other_processes_with_one_thread_each_and_are_used_again():
    before = dict(os.environ)
    with Workers(2) as pool:
        assert sorted(pool.run(square, range(6))) == [(i, i * i) for i in range(6)]
        found = [answer for _, answer in pool.run(describe, range(8))]
        assert sorted(pool.run(square, range(3))) == [(i, i * i) for i in range(3)]
        again = [answer for _, answer in pool.run(describe, range(8))]
    processes = {process for process, _, _ in found + again}
    assert os.getpid() not in processes
    assert len(processes) <= 2
    assert all(caps == ["1"] * 4 for _, caps, _ in found)
    assert all(ignores for _, _, ignores in found)
    assert dict(os.environ) == before


@pytest.mark.slow
def test_workers__take_tasks_one_by_one_and_keep_their_order_where_asked():
    taken = []

    def tasks():
        for number in range(40):
            taken.append(number)
            yield number

    with Workers(2) as pool:
        results = pool.run(square, tasks(), ordered=True)
        assert next(results) == (0, 0)
        assert len(taken) < 10
        assert list(results) == [(i, i * i) for i in range(1, 40)]


def test_executor_of__leaves_a_given_one_open():
    with Workers(1) as pool, executor_of(pool) as same:
        assert same is pool


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_run_tasks__passes_errors_on(workers):
    with pytest.raises(ValueError, match="number two is bad"):
        list(run_tasks(fail_at_two, range(5), workers))


@pytest.mark.slow
def test_run_tasks__a_killed_worker_is_an_error_and_what_is_finished_stays(tmp_path):
    finished = []
    tasks = [str(tmp_path / "finished"), str(tmp_path / "killed")]

    def run():
        for index, result in run_tasks(die_when_told, tasks, 2):
            finished.append((index, result))
            (tmp_path / "seen").touch()

    with pytest.raises(WorkerDiedError, match=r"killed .*what is finished is kept") as error:
        run()
    assert finished == [(0, "finished")]
    assert (tmp_path / "result").read_text() == "safe"
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_run_tasks__what_has_not_begun_is_dropped_after_an_interrupt(tmp_path):
    tasks = [str(tmp_path / f"{i}") for i in range(300)]

    def run():
        for _ in run_tasks(leave_a_trace, tasks, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert 1 <= len(list(tmp_path.iterdir())) < 20


def test_worker_died_error__can_be_sent_between_processes():
    error = pickle.loads(pickle.dumps(WorkerDiedError("one line")))
    assert str(error) == "one line"
