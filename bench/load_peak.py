"""Peak memory of a process while it opens a model, over what it holds afterwards.

Every opening is in a process of its own; the peak is the kernel's high-water mark of the resident
set (VmHWM) over what the imports hold, pages of mapped files included.

    python bench/load_peak.py xlm-r-large llama-1b
    python bench/load_peak.py FOLDER --forms bf16,nf4

Forms: fp32 and bf16 are a run's precision, nf4 and int8 a quantised base of a run in bf16, and
``transformers`` is ``from_pretrained`` in the checkpoint's precision, all weights read once (mapped
weights count when they are read).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
FORMS = ("fp32", "bf16", "int8", "nf4", "transformers")


def measure(folder: str, form: str) -> dict[str, int]:
    """Open a model in this process."""
    import torch
    from turns import reset_high_water

    from paretune import objectives
    from paretune.measuring.memory import read_status_bytes, release_memory, warm_libraries
    from paretune.models.load import LoadedModel, load_model
    from paretune.models.quantised import require_backend
    from paretune.models.sources.resolve import resolve_source
    from paretune.study import ModelSpec
    from paretune.testing.tiny_models import tiny_model

    head = objectives.get("classification").head_spec(("a", "b"))
    outline: LoadedModel | None = None

    def open_model(name: str) -> torch.nn.Module:
        settings = {"quantisation": form} if form in ("nf4", "int8") else {}
        spec = ModelSpec.model_validate({"name": name, **settings})
        if form != "transformers":
            source = resolve_source(spec)
            return load_model(
                source, head, bf16=form != "fp32", tokenizer=outline and outline.tokenizer
            ).model
        from transformers import AutoModelForSequenceClassification as Auto

        model: torch.nn.Module = Auto.from_pretrained(name, dtype="auto", num_labels=2)
        for parameter in model.parameters():
            torch.aminmax(parameter.detach())
        return model

    warm_libraries()
    if form == "nf4":
        require_backend("nf4", "bench")
    model_type = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))[
        "model_type"
    ]
    families = {"xlm-roberta": "roberta", "gemma3_text": "gemma3"}
    with tempfile.TemporaryDirectory() as tiny:
        open_model(str(tiny_model(families.get(model_type, model_type), Path(tiny) / "tiny")))
    # A tokenizer is no weight: it is there before the first look.
    outline = load_model(resolve_source(ModelSpec(name=folder)), head, weights=False)
    before = reset_high_water()
    model = open_model(folder)
    peak = read_status_bytes("VmHWM") - before
    release_memory()
    tensors = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers())}
    stored_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
    return {"peak": peak, "after": read_status_bytes("VmRSS") - before, "held": stored_bytes}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of bench/shapes.py, or folders")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(**options.alone)))
        return
    import torch
    from shapes import SHAPES, write_shape
    from turns import ProcessError, in_fresh_process, save

    rows: list[dict[str, object]] = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(name)
            if name in SHAPES:
                dtype = torch.float32 if name.startswith("xlm") else torch.bfloat16
                folder = write_shape(name, Path(parent) / name, dtype)
            file_bytes = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
            print(f"\n{name}, {file_bytes / 2**20:,.0f} MiB; MiB: held, after, peak; peak / held")
            for form in options.forms.split(","):
                try:
                    row = in_fresh_process(__file__, {"folder": str(folder), "form": form})
                except ProcessError as error:
                    print(f"  {form}: {str(error).strip().splitlines()[-1]}")
                    continue
                rows.append({"model": name, "form": form, **row})
                sizes = "".join(f"{row[key] / 2**20:9,.0f}" for key in ("held", "after", "peak"))
                print(f"  {form:<13}{sizes}{row['peak'] / row['held']:8.2f}", flush=True)
    save({"rows": rows}, options.json)


if __name__ == "__main__":
    main()
