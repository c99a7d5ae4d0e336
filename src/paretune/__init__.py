"""paretune: which fine-tuning method is worth it, for your model, your data and your memory?

The verbs of the command line as functions that return values; of what is printed only progress is
left, in a terminal, or as one output of a notebook::

    import paretune

    result = paretune.tune("reviews.csv", budget="30min")   # all of the next ones at once
    paretune.tune(data_frame)                    # of pandas, polars or datasets
    result.advice.take, result.exported.folder

    study = paretune.Study.load("topics.yaml")   # or give the verbs a path or a shipped name
    paretune.check(study).errors                 # what stands in the way; () if nothing does
    paretune.plan(study).seconds_left            # before anything starts
    paretune.run(study).summary                  # trains in processes of its own; can be resumed
    for task in paretune.report(study).tasks:    # scores with intervals, costs, verdicts
        print(task.sentences)
    paretune.report(study).to_pandas()           # a row for each method of each task
    paretune.why(study, "full", "lora")          # where the difference in memory lies
    paretune.watch(study).seconds_left           # how it stands, while another process runs it
    paretune.track(study, to="mlflow", output="mirror")   # a copy for an experiment tracker
    paretune.verify(study).problems              # what changed in the store since it was written
    paretune.merge(["studies/a", "studies/b"], "studies/both")   # runs of two machines in one store
    for advice in paretune.recommend(study, max_memory="4GiB"):
        print(advice)                            # sentences, and the command that exports it
    paretune.find_next_steps(study)[0].sentence  # labels to look at, more rows, longer training
    paretune.export(study).folder                # the best method's run, as a PEFT adapter
    paretune.deploy(study, tasks=10).table       # bytes and seconds of many tasks on one base
    model, tokenizer = paretune.load(folder)     # what was exported in paretune's own form

The package has a folder for each concern; docs/extend/architecture.md says what each is for. Only
names are imported here; torch and the rest come when a verb needs them.
"""

from importlib.metadata import version

from paretune.contrib.trackers import TrackResult, track
from paretune.errors import ParetuneError
from paretune.study import Study
from paretune.verbs.check import CheckResult, check
from paretune.verbs.compare import ComparisonResult, MemoryExplanation, compare, why
from paretune.verbs.deploy import Deployment, deploy
from paretune.verbs.export import ExportResult, export, load
from paretune.verbs.plan import Plan, plan
from paretune.verbs.recommend import find_next_steps, recommend
from paretune.verbs.report import report
from paretune.verbs.run import RunResult, run
from paretune.verbs.stores import MergeResult, VerifyResult, merge, verify
from paretune.verbs.tune import TuneResult, tune
from paretune.verbs.watch import StudyProgress, watch

__all__ = [
    "CheckResult",
    "ComparisonResult",
    "Deployment",
    "ExportResult",
    "MemoryExplanation",
    "MergeResult",
    "ParetuneError",
    "Plan",
    "RunResult",
    "Study",
    "StudyProgress",
    "TrackResult",
    "TuneResult",
    "VerifyResult",
    "check",
    "compare",
    "deploy",
    "export",
    "find_next_steps",
    "load",
    "merge",
    "plan",
    "recommend",
    "report",
    "run",
    "track",
    "tune",
    "verify",
    "watch",
    "why",
]
__version__ = version("paretune")


def __dir__() -> list[str]:
    """The API alone, for completion: not the folders of the package."""
    return [*__all__, "__all__", "__doc__", "__version__"]
