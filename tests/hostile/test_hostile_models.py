"""Model folders that are hostile or plain bad luck: one sentence, exit code 4, and no hanging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.open_models import open_model
from support.tiny_study import as_file, command, small

from paretune.errors import ModelError
from paretune.models import load

DEEP = 200_000
ALL = ("check", "plan", "run")


def refused(capsys: Any, tmp_path: Path, folder: Path, *verbs: str) -> str:
    """What the verbs (``check`` and ``plan``) say of a study with this model; each ends in 4."""
    file = as_file(small(tmp_path, folder), tmp_path / "s.yaml")
    message = ""
    for verb in verbs or ("check", "plan"):
        store = () if verb == "check" else ("--store", tmp_path / "store")
        code, out, err = command(capsys, verb, file, *store)
        assert code == 4, out + err
        assert "Traceback" not in out + err
        message = out + err
    return message


NESTED = "[" * DEEP + "]" * DEEP


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_files_nested_without_end(capsys: Any, tmp_path: Path, tiny_model: Any, name: str) -> None:
    folder = tiny_model("bert", tmp_path / "deep")
    if name.startswith("model"):
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(f'{{"model_type": "bert", "weight_map": {NESTED}}}')
    message = refused(capsys, tmp_path, folder, *ALL)
    assert f"{name}: is n" in message  # nested without end, no tokenizer


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "generation_config.json", "config.json", "tokenizer.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [NESTED, '{"a": ' * DEEP, "[]", "7", '"', "\0", ""])
def test_other_files_that_are_no_json(
    tmp_path: Path, tiny_model: Any, name: str, content: str
) -> None:
    folder = tiny_model("bert", tmp_path / "odd")
    (folder / name).write_text(content)
    assert opens_or_says_why(folder)


def change_config(folder: Path, changes: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def opens_or_says_why(folder: Path) -> str:
    """Whatever else is raised is a defect."""
    try:
        open_model(folder)
    except ModelError as error:
        return str(error)
    return "it opens"


CONFIGS: list[dict[str, Any]] = [
    {"hidden_size": "x"},
    {"hidden_size": None},
    {"hidden_size": -32},
    {"hidden_size": [32]},
    {"num_attention_heads": 0},
    {"num_attention_heads": 7},
    {"num_hidden_layers": -1},
    {"num_hidden_layers": "two"},
    {"max_position_embeddings": 1e400},
    {"hidden_act": "os.system"},
    {"model_type": 7},
    {"model_type": "nothing known"},
    {"architectures": [[[]]]},
    {"torch_dtype": "__import__('os')"},
    {"id2label": 3},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    {"quantization_config": 7},
]
DECODER_CONFIGS: list[dict[str, Any]] = [
    {"num_key_value_heads": 3},
    {"num_key_value_heads": 0},
    {"head_dim": -8},
    {"rope_parameters": {"rope_type": "nothing known"}},
    {"max_position_embeddings": 0},
    {"pad_token_id": 10**9},
    {"tie_word_embeddings": "yes"},
    {"use_cache": [1]},
]


@pytest.mark.parametrize(
    ("family", "changes"),
    [*(("bert", c) for c in CONFIGS), *(("llama", c) for c in DECODER_CONFIGS)],
    ids=lambda c: json.dumps(c)[:40],
)
def test_configs_that_ask_for_nonsense(
    tmp_path: Path, tiny_model: Any, family: str, changes: dict[str, Any]
) -> None:
    folder = tiny_model(family, tmp_path / "odd")
    change_config(folder, changes)
    assert opens_or_says_why(folder)


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "vocab_size"])
def test_sizes_that_the_weights_do_not_have_take_no_memory(
    tmp_path: Path, tiny_model: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by the shapes in the files: nothing but an outline was made."""
    folder = tiny_model("bert", tmp_path / "odd")
    change_config(folder, {key: 10_000_000})
    opened: list[bool] = []
    from_pretrained = load._from_pretrained

    def record(*arguments: Any) -> Any:
        opened.append(arguments[4])
        return from_pretrained(*arguments)

    monkeypatch.setattr(load, "_from_pretrained", record)
    message = opens_or_says_why(folder)
    assert "in the file and" in message and "10000000" in message
    assert opened == [False]


QUANTISED = {"quantization_config": {"quant_method": "gptq", "bits": 4}}


@pytest.mark.parametrize(
    ("changes", "what", "remedy"),
    [
        (
            QUANTISED,
            "its weights are quantised (gptq); paretune quantises by itself",
            "Choose the same model without quantisation.",
        ),
        (
            {"is_decoder": True},
            'is of type "bert", an encoder, and its config.json has is_decoder: true',
            "Choose a model that was trained as it is used.",
        ),
    ],
)
def test_every_verb_refuses_what_it_cannot_train(
    capsys: Any, tmp_path: Path, tiny_model: Any, changes: Any, what: str, remedy: str
) -> None:
    folder = tiny_model("bert", tmp_path / "odd")
    change_config(folder, changes)
    message = refused(capsys, tmp_path, folder, *ALL)
    assert what in message and remedy in message
