"""What lm-evaluation-harness scores on fifty rows, for a test to compare with.

The harness is installed in an environment of its own (bench/oracles/README.md). Its own tasks
(``boolq``, ``cb``, ``sglue_rte``, ``copa``, ``mrpc`` from its files; ``sl_boolq`` as
github.com/SloLama/slovenian-llm-eval has it) read rows that are made here of a few sentences, and
its own code asks a model and scores it. What it gave is kept in tests/oracle/lm_eval.json: of each
row the texts that were scored, their log-likelihoods, and which answers were right without and with
normalisation. The model is a Llama whose weights follow from a formula, in fp32, with a small
tokenizer that is kept with them. This file imports nothing of paretune.

    python bench/oracles/lm_eval_oracle.py            # writes tests/oracle/lm_eval.json
    python bench/oracles/lm_eval_oracle.py --check    # compares with what is written
    python bench/oracles/lm_eval_oracle.py --model FOLDER --rows FILE.json --output FILE.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

FILE = Path(__file__).parents[2] / "tests" / "oracle" / "lm_eval.json"
TASKS = Path(lm_eval.__file__).parent / "tasks"
CONFIGS: dict[str, Any] = {
    "boolq": TASKS / "super_glue" / "boolq" / "default.yaml",
    "cb": TASKS / "super_glue" / "cb" / "default.yaml",
    "sglue_rte": TASKS / "super_glue" / "rte" / "default.yaml",
    "copa": TASKS / "super_glue" / "copa" / "default.yaml",
    "mrpc": TASKS / "glue" / "mrpc" / "default.yaml",
    "sl_boolq": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{passage}}\nVprašanje: {{question}}?\nOdgovor:",
        "doc_to_target": "label",
        "doc_to_choice": ["Ne", "Da"],
    },
}
METRICS = ("acc", "acc_norm", "acc_bytes")
ENGLISH = [
    "The cat sat on the mat",
    "The dog slept by the door",
    "Water turns into ice at zero degrees",
    "She opened the window because the room was hot",
    "Prices rose by twelve percent",
    "Nobody knows why the train was late",
    "The museum is closed on Mondays",
]
SLOVENE = [
    "Človeška ribica živi v temnih kraških jamah",
    "Žaba skače čez lužo",
    "Vlak iz Ljubljane zamuja skoraj eno uro",
    "Moški je odprl okno, ker mu je bilo vroče",
    "Voda pri nič stopinjah zmrzne",
]
CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def make_rows() -> dict[str, list[dict[str, Any]]]:
    """Fifty rows in the columns of the tasks."""

    def english(i: int) -> str:
        return ENGLISH[i % len(ENGLISH)]

    def slovene(i: int) -> str:
        return SLOVENE[i % len(SLOVENE)]

    def ask(sentence: str) -> str:
        return f"is it true that {sentence[0].lower()}{sentence[1:]}"

    return {
        "boolq": [
            {
                "passage": ". ".join(english(i + j) for j in range(i % 5 + 1)) + ".",
                "question": ask(english(i * 3)),
                "label": i % 2,
            }
            for i in range(10)
        ],
        "cb": [
            {"premise": f"{english(i)}. {english(i + 2)}.", "hypothesis": english(i * 2).lower()}
            | {"label": i % 3}
            for i in range(8)
        ],
        "sglue_rte": [
            {"premise": f"{english(i + 1)}.", "hypothesis": f"{english(i * 3)}.", "label": i % 2}
            for i in range(8)
        ],
        "copa": [
            {
                "premise": f"{english(i)}.",
                "choice1": f"{english(i + 1)}.",
                "choice2": f"{english(i + 3)}.",
                "question": ("cause", "effect")[i % 2],
                "label": (i // 2) % 2,
            }
            for i in range(8)
        ],
        "mrpc": [
            {"sentence1": f"{english(i)}.", "sentence2": f"{english(i + i % 3)}.", "label": i % 2}
            for i in range(8)
        ],
        "sl_boolq": [
            {
                "passage": ". ".join(slovene(i + j) for j in range(i % 4 + 1)) + ".",
                "question": f"Ali je res, da {slovene(i * 2)[0].lower()}{slovene(i * 2)[1:]}",
                "label": i % 2,
            }
            for i in range(8)
        ],
    }


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few words, which puts a token before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = ["Question: Answer: True False, or Neither? no yes", "Vprašanje: Odgovor: Ne Da"]
    tokenizer.train_from_iterator([*ENGLISH, *SLOVENE, *words] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.bos_token, fast.eos_token, fast.pad_token = "<bos>", "<eos>", "<eos>"
    return fast


def make_model(vocabulary: int) -> LlamaForCausalLM:
    """A Llama whose weights are sines: no library's random numbers are in them."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **CONFIG))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(places * (number + 1)).mul(0.2).view_as(parameter)
            parameter.copy_(values + 1 if parameter.ndim == 1 else values)
    return model.eval()


def read_config(name: str, rows: Path) -> dict[str, Any]:
    """A task of the harness, with rows of a file in place of its data set."""
    config = CONFIGS[name]
    own = dict(config) if isinstance(config, dict) else dict(load_yaml(config))
    for key in ("tag", "dataset_name", "training_split", "validation_split"):
        own.pop(key, None)
    return own | {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test",
        "metric_list": [{"metric": metric} for metric in METRICS],
        # The choices of COPA begin with a blank, and the harness puts another one before them.
        **({"target_delimiter": ""} if name == "copa" else {}),
    }


def score(
    model: Any, tokenizer: Any, rows: dict[str, list[dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """What the harness's own code gives for each row of each task."""
    scored: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        configs = []
        for name, own in rows.items():
            file = Path(folder) / f"{name}.jsonl"
            lines = (json.dumps(row, ensure_ascii=False) for row in own)
            file.write_text("\n".join(lines), encoding="utf-8")
            configs.append(read_config(name, file))
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu")
        results = lm_eval.simple_evaluate(
            model=harness, tasks=configs, bootstrap_iters=0, log_samples=True
        )
        for name, samples in results["samples"].items():
            scored[name] = [
                {
                    "row": sample["doc"],
                    "texts": [list(pair) for pair in sample["arguments"]],
                    "log_likelihoods": [float(one[0][0]) for one in sample["resps"]],
                    "right": {metric: bool(sample[metric]) for metric in METRICS},
                }
                for sample in sorted(samples, key=lambda sample: sample["doc_id"])
            ]
    return scored


def main() -> None:
    """Write the file, compare with it, or score rows by a model in a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.model is not None:
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
        rows = json.loads(options.rows.read_text(encoding="utf-8"))
        scored = score(model, AutoTokenizer.from_pretrained(options.model), rows)
        options.output.write_text(json.dumps(scored, ensure_ascii=False), encoding="utf-8")
        return
    tokenizer = make_tokenizer()
    values = {
        "lm_eval": version("lm_eval"),
        "config": CONFIG,
        "tasks": score(make_model(len(tokenizer)), tokenizer, make_rows()),
        "tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()),
    }
    if not options.check:
        FILE.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    for name, items in values["tasks"].items():
        for own, other in zip(items, recorded["tasks"][name], strict=True):
            pairs = zip(own["log_likelihoods"], other["log_likelihoods"], strict=True)
            assert own["texts"] == other["texts"], name
            assert all(abs(a - b) < 1e-4 for a, b in pairs), name
    print(f"lm_eval {values['lm_eval']} gives what {recorded['lm_eval']} gave")


if __name__ == "__main__":
    main()
