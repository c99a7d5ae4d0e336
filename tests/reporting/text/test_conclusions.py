from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.reporting.build import build_report
from paretune.reporting.rows import build_rows
from paretune.reporting.text.conclusions import describe_protocol


def test_a_search_is_said_only_where_rates_were_tried() -> None:
    three = describe_protocol(fake.study(protocol={"trials": 3, "seeds": [1, 2], "folds": 1}))
    assert "every method tried 3 learning rates with a tuning seed" in three
    one = describe_protocol(fake.study(protocol={"trials": 1, "seeds": [1, 2], "folds": 1}))
    assert "every method trained with one learning rate; no other was tried" in one
    assert (
        "Scores are of 2 fresh seeds, on rows that no selection has used" in one
        and "tuning" not in one
    )


def test_what_is_not_proven_better_than_no_training_is_named() -> None:
    study = fake.study(tasks=[fake.own_task("topics")], methods=["full", "lora"])
    records = [
        *fake.whole(study, {"full": 0.97, "lora": 0.6}),
        *fake.cell(study, "few_shot", 0.6),
        *fake.cell(study, "untuned", 0.2),
    ]
    (task,) = build_report(study, records).tasks
    cells = group_into_cells(study, records)
    rows = {row.method: row for row in build_rows(cells, PairwiseComparisons(cells))}
    assert rows["LoRA"].not_above_untrained == ("few_shot",)
    assert (
        rows["full fine-tuning"].not_above_untrained
        == rows["few-shot prompt"].not_above_untrained
        == ()
    )
    sentence = "Not proven better than the model without training (few-shot prompt): LoRA."
    assert sentence in task.sentences
