"""The simulation of a cluster: what is known without it comes out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import cluster_simulation

    return cluster_simulation


@pytest.fixture
def certain(simulation):
    """Twelve cells whose runs all take 100 s, on machines that nothing happens to."""
    return simulation.Workload(
        cells=12,
        run_seconds=100.0,
        run_sigma=0.0,
        slow_share=0.0,
        preemptions_per_hour=0.0,
        cost_seconds=10.0,
    )


@pytest.fixture
def instant(simulation):
    times = dict.fromkeys(("claim", "renew", "change", "end", "sync", "latency"), 0.0)
    return simulation.Server(**times, look=0.0, look_each=0.0)


@pytest.mark.parametrize("workers", [1, 4, 12])
def test_without_chance_and_with_a_server_that_takes_no_time(simulation, certain, instant, workers):
    outcome = simulation.simulate(certain, instant, workers)
    assert outcome.trained_until == pytest.approx(12 * 7 * 100 / workers)
    assert outcome.makespan == pytest.approx(outcome.trained_until + 12 * 10)
    assert outcome.training_efficiency == pytest.approx(1.0)
    assert (outcome.ended, outcome.preemptions, outcome.lost) == (certain.runs, 0, 0.0)
    renewals = instant.renewals_per_second * 12 * 7 * 100
    looks = workers * outcome.trained_until / instant.look_pause
    assert outcome.requests == pytest.approx(2 * certain.runs + renewals + looks)


def test_finals_wait_for_the_trials_of_their_cell(simulation, certain, instant):
    """More workers than finals of one cell: nobody can do better than two waves and a half."""
    one = simulation.replace(certain, cells=1)
    assert simulation.simulate(one, instant, 50).trained_until == pytest.approx(200.0)


def test_every_run_ends_once_whatever_happens_to_the_machines(simulation):
    harsh = simulation.Workload(cells=40, run_seconds=900.0, preemptions_per_hour=6.0)
    seen = []
    for seed in (1, 2):
        outcome = simulation.simulate(harsh, simulation.Server(), 16, seed)
        again = simulation.simulate(harsh, simulation.Server(), 16, seed)
        assert outcome.row() == again.row()
        assert outcome.ended == harsh.runs and outcome.preemptions > 50
        assert 0 < outcome.lost < outcome.work and outcome.training_efficiency < 1
        seen.append(outcome.makespan)
    assert seen[0] != seen[1]
    warned = simulation.replace(harsh, noticed=1.0)
    assert simulation.simulate(warned, simulation.Server(), 16).lost == 0.0


def test_costs_on_several_devices_take_their_part_of_the_time(simulation, certain, instant):
    four = simulation.replace(certain, cost_devices=4)
    outcome = simulation.simulate(four, instant, 12)
    assert outcome.makespan - outcome.trained_until == pytest.approx(12 * 10 / 4)


def test_a_slow_server_is_what_limits_many_workers(simulation, certain, instant):
    slow = simulation.replace(instant, claim=10.0, end=10.0)
    outcome = simulation.simulate(certain, slow, 12)
    # Every run takes 20 s of the one server, whoever asks.
    assert outcome.trained_until >= 20.0 * 12 * 7
    assert outcome.row()["server_busy"] > 0.9
    assert simulation.count_servable_workers(100.0, slow) == int(0.7 * 100 / 20)


def test_looks_fill_the_server_and_then_renewals_come_too_late(simulation, certain, instant):
    """A look takes 1 s; between two a worker waits 5 s: six workers fill the server."""
    looking = simulation.replace(instant, look=1.0)
    waits = {n: looking.backlog_seconds(n) for n in (5, 6, 12, 65, 66)}
    assert waits == pytest.approx({5: 0.0, 6: 1.0, 12: 7.0, 65: 60.0, 66: 61.0})
    assert looking.looks_per_second(3) == pytest.approx(3 / 6)
    assert looking.looks_per_second(50) == pytest.approx(1.0)
    ends = {n: simulation.simulate(certain, looking, n).leases_end for n in (65, 66)}
    assert ends == {65: False, 66: True}
    by_changes = simulation.replace(instant, look=0.5, look_each=1 / 96)
    assert by_changes.look_seconds(48) == pytest.approx(1.0)
    waiting = simulation.replace(by_changes, sync=0.5)
    seconds = [one.server.renew_seconds for one in simulation.list_servers(waiting)]
    assert seconds == [0.0, 0.5]
