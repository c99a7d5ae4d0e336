"""A table of published runs as the paper's authors have it, with numbers that nobody measured."""

from __future__ import annotations

from pathlib import Path

HEAD = (
    "task,model,method,peft,per_device_train_batch_size,max_steps,num_train_epochs,trainable,acc,f1,"
    "gpu_gb"
)
LABELS = {
    "boolq": {"no": 3, "yes": 7},
    "cb": {"entailment": 6, "contradiction": 4, "neutral": 2},
    "copa": {"the first": 60, "the second": 140},
}
# A constant "yes" has 0.7 and, weighted, F1 0.7 * 14 / 17 = 0.5764; "entailment" 0.5 and 0.3333.
ROWS = """\
BoolQ,XML-bert,FT,,8,400,,,0.9,0.8989,5
BoolQ,XML-bert,prompt,"tokens=3, random",8,400,,1100,0.7,0.5764,2.5
BoolQ,sloberta,FT,,8,400,,,0.8,0.79,4.4
BoolQ,sloberta,LoHa,,8,400,,2200,0.6,0.61,1.1
CB,XLM-bert,FT,,8,400,,,0.8333,0.82,5
CB,XLM-bert,LoRa,,4,400,,5000,0.5,0.3333,2
COPA,croslo,FT,,8,400,,,0.3,0.3,3
COPA,croslo,LoRA,,8,400,,4000,0.75,0.75,1.5
COPA,croslo,LoHa,,8,400,,7000,0.7,0.7,1.6
machine_translation_slo_en,opus-mt-sla-en,LoRA,,16,,1,300,,,9.1
machine_translation_slo_en,opus-mt-sla-en,LoHa,,8,120,,600,,,7.3
"""


def table(path: Path, rows: str = ROWS, head: str = HEAD) -> Path:
    """The table as a file."""
    path.write_text(f"{head}\n{rows}", encoding="utf-8")
    return path
