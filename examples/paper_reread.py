"""Reads the paper again: a verdict on each of its conclusions, by each study that is given.

python examples/paper_reread.py --online                              the paper's three encoders
python examples/paper_reread.py --model ./FOLDER --source ./FOLDER    a model and the data from here
python examples/paper_reread.py --no-run A.yaml B.yaml                what is there of these studies

Each study (without any: paper.yaml and paper-fair.yaml beside this file, the paper's grid under its
protocol and under a fair one) is run, or gone on with, in STORE/NAME. Then the page is written, and
beside it the report of each study. --published FILE adds what the paper's own numbers say: its
authors' table of runs, in the form that docs/gallery/paper.md has.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from paretune.errors import ParetuneError, RunsFailedError
from paretune.reporting.document import write_file
from paretune.study import Study, TaskSpec
from paretune_slovene.paper import replication_page
from paretune_slovene.paper.table import read_published_runs

HERE = Path(__file__).parent
STUDIES = HERE / "paper.yaml", HERE / "paper-fair.yaml"


def main(given: Sequence[str] | None = None) -> int:
    """Run, judge, write; the exit code."""
    asked = options().parse_args(given)
    try:
        page = read_again(asked)
    except ParetuneError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command continues\n")
        return 130
    sys.stdout.write(f"Page: {page}\n")
    return 0


def options() -> argparse.ArgumentParser:
    """What the command line has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", type=Path, default=STUDIES, metavar="STUDY")
    parser.add_argument("--model", action="append", help="in place of the studies' models; repeat")
    parser.add_argument("--source", help="folder of Slovene SuperGLUE, if it is not fetched")
    parser.add_argument("--store", type=Path, default=Path("studies"))
    parser.add_argument("--page", type=Path, help="STORE/paper-reread.html by default")
    parser.add_argument("--published", type=Path, metavar="FILE", help="the paper's own runs")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--online", action="store_true", help="fetch models that are not here yet")
    parser.add_argument("--no-run", action="store_true", help="read what is there, and run nothing")
    return parser


def read_again(asked: argparse.Namespace) -> Path:
    """Run what is asked for and write the page; its path.

    Raises:
        ParetuneError: a study, its data or a model cannot be used; or runs stopped with an error
            (the page is written before).
    """
    from paretune.verbs.report import load_results, report

    page = asked.page or asked.store / "paper-reread.html"
    evidence, failed = [], 0
    if asked.published is not None:
        runs = read_published_runs(asked.published, lambda task: scored_labels(task, asked.source))
        evidence.append(replication_page.published_evidence(runs))
    for study in [adapted(path, asked.model, asked.source) for path in asked.studies]:
        store = asked.store / study.study
        if not asked.no_run:
            failed += run(study, asked, store)
        results = load_results(study, store)
        report_page = page.with_name(f"{page.stem}-{study.study}.html")
        report(study, store=store, page=report_page)
        evidence.append(
            replication_page.study_evidence(
                study, results.records, results.states, report_page.name
            )
        )
    for source in evidence:
        sys.stdout.write(f"{source.title}: {source.summary}.\n")
    write_file(page, replication_page.render_replication_page(evidence), "the page")
    if failed:
        raise RunsFailedError(
            f"{failed} runs stopped with an error; {page} has the others.",
            remedy="`paretune run STUDY --retry` tries them again.",
        )
    return page


def scored_labels(task: str, source: str | None) -> Counter[str]:
    """How often each label stands in the rows that the paper scored: validation, of CB the first.

    Raises:
        DataError: the data is not there.
    """
    from paretune import tasks
    from paretune_slovene.paper.preset import read_settings

    limit = read_settings()["tasks"][task].get("limit")
    folder = None if source is None else here(source)
    data = tasks.load_dataset(TaskSpec(name=task, language="sl", source=folder, limit=limit))
    return Counter(data.labels[int(e.label)] for e in data.test if e.label is not None)


def adapted(path: Path, models: Sequence[str] | None, source: str | None) -> Study:
    """The study of a file, with other models or data where they are given.

    Raises:
        StudyError: the file cannot be used.
    """
    study = Study.load(path)
    if not models and source is None:
        return study
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    if models:
        raw["models"] = [here(name) for name in models]
    if source is not None:
        for task in raw["tasks"]:
            task["source"] = here(source)
    return Study.parse(raw, where=str(path), base=path.parent)


def here(name: str) -> str:
    """A folder of this place by its whole path; in a study file it would be beside the file."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def run(study: Study, asked: argparse.Namespace, store: Path) -> int:
    """Run a study, or go on with it; how many runs stopped with an error."""
    from paretune.execution.progress import open_observer
    from paretune.verbs.run import run as go

    with open_observer() as observer:
        ran = go(
            study,
            store=store,
            workers=asked.workers,
            threads=asked.threads,
            devices=asked.devices,
            online=asked.online,
            observer=observer,
        )
    return len(ran.summary.failed)


if __name__ == "__main__":
    sys.exit(main())
