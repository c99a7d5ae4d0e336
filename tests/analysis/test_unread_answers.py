"""Generated texts without a label: their share, in the report's words, and in no likelihood."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import fake_records as fake
from support.fake_cells import topic_cells

from paretune.analysis.secondary_scores import NO_SHARES, cell_likelihood
from paretune.metrics.classification import NO_LABEL
from paretune.reporting.build import build_report
from paretune.store.record import Predictions, Record
from paretune.study import Study


def unread(part: Predictions, count: int) -> Predictions:
    """The first ``count`` answers named no label."""
    answers = (*(NO_LABEL for _ in range(count)), *part.prediction[count:])
    return replace(part, prediction=answers, scores=tuple(() for _ in answers))


def text_study() -> tuple[Study, list[Record]]:
    study = fake.study(methods=["lora"], tasks=[fake.own_task("topics")])
    records = list(fake.cell(study, "majority", None))
    for seed in study.protocol.seeds:
        run = fake.make_run(study, "final", "lora", seed).model_copy(update={"readout": "text"})
        records.append(fake.record(run, {"test": unread(fake.answers(0.9, seed=seed), 6)}))
    return study, records


def test_the_share_of_answers_without_a_label_is_told() -> None:
    study, records = text_study()
    cells = {cell.method: cell for cell in topic_cells(study, records)}
    assert cells["lora"].unread_share == pytest.approx(6 / 60)
    assert cells["majority"].unread_share == 0.0
    (task,) = build_report(study, records, []).tasks
    sentences = [s for s in task.sentences if s.startswith("No label was found")]
    assert len(sentences) == 1 and "which count as wrong: 10.0% of LoRA" in sentences[0]


def test_labels_have_the_probabilities_that_are_stored_beside_the_texts() -> None:
    """None in records of before they were; then those of the labels' own texts."""
    study, records = text_study()
    cell = next(c for c in topic_cells(study, records) if c.method == "lora")
    assert cell_likelihood(cell).reason == NO_SHARES.reason
    scored = [
        replace(
            record,
            predictions={
                part: replace(fake.answers(0.9, seed=record.run.seed), prediction=own.prediction)
                for part, own in (
                    ("selection", record.predictions["test"]), ("test", record.predictions["test"])
                )
            },
        )
        if record.run.readout == "text"
        else record
        for record in records
    ]  # fmt: skip
    likelihood = cell_likelihood(next(c for c in topic_cells(study, scored) if c.method == "lora"))
    assert likelihood.log_likelihood is not None and not likelihood.reason
