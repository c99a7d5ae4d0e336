from support import fake_records as fake

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells


def by_key(cells: list[Cell]) -> dict[tuple[str, str, str], Cell]:
    return {(c.task, c.model, c.method): c for c in cells}


def test_a_whole_study_is_gathered() -> None:
    study = fake.study()
    cells = by_key(group_into_cells(study, fake.whole(study)))
    lora = cells["topics", "e5-small", "lora"]
    assert len(cells) == 2 * (3 + 1 + 2)
    assert (len(lora.final), len(lora.tuning), len(lora.cost)) == (3, 3, 1)
    assert lora.rate == 1e-3
    assert lora.finished
    assert lora.interval is not None
    assert (lora.interval.n_examples, lora.interval.n_seeds) == (60, 3)
    assert cells["topics", "e5-small", "prompt"].outcomes == {"collapsed": 3}
    assert cells["topics", "-", "majority"].baseline
    assert cells["topics", "-", "tfidf"].finished
    assert cells["entailment", "e5-small", "lora"].metric == "accuracy_f1"


def test_what_has_not_run_is_there_too() -> None:
    study = fake.study()
    waiting = [fake.state(fake.make_run(study, "tune", "lora", 0, fold=f)) for f in (0, 1)]
    cells = by_key(group_into_cells(study, [], waiting))
    lora = cells["topics", "e5-small", "lora"]
    assert lora.interval is None
    assert not lora.finished
    assert lora.pending == {("tune", "todo"): 2}


def test_runs_on_shares_of_the_rows_are_counted_with_the_final_runs() -> None:
    study = fake.study(methods=["lora"])
    runs = [fake.make_run(study, "final", "lora", seed) for seed in (1, 2, 3)]
    on_half = [run.on_rows(0.5) for run in runs]
    ended = [fake.record(run, {"test": fake.constant()}) for run in (*runs, on_half[0])]
    cells = by_key(group_into_cells(study, ended, [fake.state(run) for run in on_half[1:]]))
    assert cells["topics", "e5-small", "lora"].count_runs("final") == (4, 6)


def test_a_collapse_is_seen_whatever_the_record_says() -> None:
    study = fake.study()
    run = fake.make_run(study, "final", "lora", 1)
    cells = by_key(group_into_cells(study, [fake.record(run, {"test": fake.constant()}, "ok")]))
    assert cells["topics", "e5-small", "lora"].outcomes == {"collapsed": 1}


def test_a_changed_study_never_mixes_results() -> None:
    old = fake.study(training={"epochs": 3})
    new = fake.study(training={"epochs": 10})
    records = fake.cell(old, "lora", 0.9) + fake.cell(new, "lora", 0.5)
    lora = by_key(group_into_cells(new, records))["topics", "e5-small", "lora"]
    assert {r.run.training.epochs for r in lora.final + lora.tuning + lora.cost} == {10}
    assert len(lora.final) == 3
    assert lora.other_settings == 3


def test_answers_to_other_data_are_left_out() -> None:
    study = fake.study()
    run = fake.make_run(study, "final", "lora", 1)
    records = [fake.record(run, {"test": fake.answers(0.7, part="old")})]
    for seed in (1, 2):
        again = fake.make_run(study, "final", "lora", seed)
        records.append(fake.record(again, {"test": fake.answers(0.7, seed=seed)}))
    lora = by_key(group_into_cells(study, records))["topics", "e5-small", "lora"]
    assert len(lora.final) == 2
    assert lora.other_settings == 1


def test_a_cell_whose_every_trial_blew_up_is_finished_without_hope() -> None:
    study = fake.study()
    runs = [fake.make_run(study, "tune", "lora", 0, learning_rate=r) for r in (1e-4, 1e-3)]
    lora = by_key(group_into_cells(study, [fake.record(r, outcome="diverged") for r in runs]))[
        "topics", "e5-small", "lora"
    ]
    assert lora.all_trials_failed
    assert lora.finished
    assert lora.rate is None


def test_each_task_of_a_study_has_its_own_baselines() -> None:
    both = fake.translation_study(
        tasks=[fake.translation_study().tasks[0].model_dump(), fake.own_task("topics")]
    )
    cells = by_key(group_into_cells(both, []))
    assert {k[2] for k in cells if k[0] == "help-sl-en"} - {"full", "lora", "prompt"} == {
        "untuned",
        "copy_source",
    }
    assert {k[2] for k in cells if k[0] == "topics"} - {"full", "lora", "prompt"} == {
        "head_only",
        "majority",
        "tfidf",
    }
