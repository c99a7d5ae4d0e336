"""Where the encoder of a metric computes."""

import pytest
from torch import nn

from paretune.study import Generation
from paretune.training.evaluation import evaluator


class Caches:
    def source(self, spec):
        return spec


@pytest.mark.parametrize(
    ("device", "free", "place"), [("meta", 0, "meta"), ("cuda:1", 191, "cpu"), ("cuda:1", 192, "")]
)
def test_an_encoder_computes_where_its_run_does_if_it_fits(monkeypatch, device, free, place):
    moved = []
    model = nn.Linear(4, 4, bias=False)  # 64 bytes
    monkeypatch.setattr(nn.Module, "to", lambda module, where: moved.append(where))
    monkeypatch.setattr(evaluator, "load_headless_encoder", lambda source: (model, None))
    monkeypatch.setattr(evaluator, "read_free_bytes", lambda name: free)
    generation = Generation(metrics=("bertscore",), bertscore_model="encoder")
    metrics = evaluator.prepare_metrics(generation, "sl", Caches(), device)
    with pytest.raises(AttributeError):  # the model of this test is none
        evaluator.score_segments(metrics, ["a"], ["b"])
    assert moved == [place or device]
