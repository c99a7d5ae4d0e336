import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.table import Table
from paretune.reporting.table_files import (
    render_csv,
    render_latex,
    write_tables,
)
from paretune.reporting.tables import build_tables
from paretune.reporting.text import escape

EVIL = "=1+1|a\n\\input{x}%&$#_^~`<b>[x](y)\x1b\"'"


def named(report: Any) -> dict[str, Table]:
    return {table.name: table for table in build_tables(report)}


def rows_of(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_csv(table))))


def hostile() -> Table:
    study = fake.labelled(fake.study(methods=["full", "lora"]), {"lora": EVIL})
    return named(build_report(study, fake.whole(study)))["scores"]


def test_every_table_in_every_format(tmp_path: Path) -> None:
    study = fake.study(models=["a", "b"])
    bad = fake.record(fake.make_run(study, "final", "lora", 1), outcome="error", message=EVIL)
    written = write_tables(build_report(study, [*fake.whole(study), bad]), tmp_path / "t")
    names = {"scores", "pairs", "costs", "bytes", "sizes", "rates", "over-tasks", "failures"}
    names |= {"metrics", "classes"}
    assert {path.name for path in written} == {
        f"{name}.{form}" for name in names for form in ("tex", "csv")
    }
    assert write_tables(build_report(study, []), tmp_path / "none") == []
    again = write_tables(build_report(study, [*fake.whole(study), bad]), tmp_path / "again")
    assert [p.read_bytes() for p in written] == [p.read_bytes() for p in again]


def test_every_score_carries_interval_examples_and_seeds() -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study))
    for name, score in (("scores", "score"), ("pairs", "difference")):
        for row in rows_of(named(report)[name]):
            low, value, high = (float(row[key]) for key in ("low", score, "high"))
            assert low <= value <= high and row["n"] == "60" and row["seeds"] in "13"
    lora = named(report)["scores"].texts[1]
    assert re.fullmatch(r"0\.\d\d \[0\.\d\d, 0\.\d\d\]", lora[4]) and lora[6] == "60 x 3"
    exact = rows_of(named(report)["scores"])[1]["score"]
    interval = report.tasks[0].methods[1].score
    assert interval is not None and float(exact) == interval.estimate


def test_columns_stay_where_no_row_has_a_value() -> None:
    study = fake.study()
    run = fake.make_run(study, "tune", "lora", 0)
    lost = fake.record(run, outcome="diverged")
    (row, *_) = rows_of(named(build_report(study, [lost]))["rates"])
    assert (row["selection_score"], row["low"], row["n"], row["lost"]) == ("", "", "", "1")


def test_what_is_not_there_is_empty_and_never_zero() -> None:
    study = fake.study()
    records = [r for r in fake.whole(study) if r.run.stage != "cost" or r.run.method.name != "full"]
    records.append(fake.cost(fake.make_run(study, "cost", "full", 1), None))
    tables = named(build_report(study, records))
    full = rows_of(tables["costs"])[0]
    assert (full["method"], full["peak_bytes"]) == ("full", "")
    assert full["step_seconds"] == "0.84" and full["measurements"] == "1"
    assert rows_of(tables["bytes"])[0]["rest_bytes"] == ""


def test_latex_takes_names_literally() -> None:
    text = render_latex(hostile())
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == 11
    row = next(line for line in body if "1+1" in line)
    assert r"\textbackslash{}input\{x\}\%\&\$\#\_\textasciicircum{}" in row
    assert r"\input" not in text and "\x1b" not in text
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert escape.escape_latex("a--b [c") == "a-{}-b {[}c"


HARD = '&%_#$\\{}~^<>|"[]`čšžČŠŽđ–×²'


@pytest.mark.parametrize("evil", [*HARD, HARD, "--", "\\input{x}", "a\x1bb", "1%2&3"])
def test_no_character_steers_latex(evil: str) -> None:
    """Read back as LaTeX would: commands of ours, escaped characters, and letters; nothing else."""
    text = escape.escape_latex(evil)
    commands = r"\\text[a-z]+\{(2)?\}|\$\\times\$|\\[{}$&#_%]|\{[\[\]]\}|-\{\}-?|--"
    rest = re.sub(commands, "", text)
    assert not re.search(r"[\\{}$&#_%~^<>|\"\[\]`]", rest), rest
    assert all(c.isprintable() for c in text)
    for letter in set(evil) & set("čšžČŠŽđ"):
        assert letter in text


def test_wide_and_long_tables_stay_in_the_line() -> None:
    text = render_latex(hostile())
    assert r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}}") == 1
    study = fake.study(
        methods=[{"name": "full", "label": "a name of more than thirty-two letters"}]
    )
    scores = render_latex(named(build_report(study, fake.whole(study)))["scores"])
    assert r">{\raggedright\arraybackslash}p{4cm}" in scores
    assert r"\usepackage{array,booktabs,graphicx}" in scores


@pytest.mark.parametrize("plain", ["copy_source", "a__b", "1 < 2 > 0!", "R&D", "C# {x}", "-5", "-"])
def test_what_is_no_markup_stays_readable_in_markdown(plain: str) -> None:
    assert escape.escape_markdown(plain) == plain


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("_x_ __y__", r"\_x\_ \_\_y\_\_"),
        ("*x* `y` ~z~ a|b", r"\*x\* \`y\` \~z\~ a\|b"),
        ("<b> </b> <!-- <1", r"\<b> \</b> \<!-- <1"),
        ("[a](b) [a][b] [a]: b", r"[a]\(b) [a]\[b] [a]\: b"),
        ("&lt; &#60; & x", "&amp;lt; &amp;#60; & x"),
        ("# a #", r"\# a \#"),
        (" > a", r"\> a"),
        ("- a", r"\- a"),
        ("---", r"\---"),
        ("1. a", r"1\. a"),
        ("a\\", r"a\\"),
    ],
)
def test_markup_is_escaped_where_it_would_be_read(markup: str, expected: str) -> None:
    assert escape.escape_markdown(markup) == expected


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "＝1"])
def test_no_cell_of_a_csv_is_a_formula(evil: str) -> None:
    assert not escape.escape_csv(evil).lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert escape.escape_csv("plain") == "plain"
    for separator in ";|\t":  # where it is cut, no part begins a formula either
        parts = escape.escape_csv(f"name{separator}{evil}").split(separator)
        assert not any(part.lstrip().startswith(("=", "+", "-", "@", "＝")) for part in parts)


def test_csv_keeps_negative_numbers_and_one_line_a_row() -> None:
    text = render_csv(hostile())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.count("\n") == len(rows) + 1
    assert any(row["method"].startswith("'=1+1|a") for row in rows)
    study = fake.study()
    differences = rows_of(named(build_report(study, fake.whole(study)))["pairs"])
    assert any(row["difference"].startswith("-0.") for row in differences)
