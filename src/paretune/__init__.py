"""paretune: which fine-tuning method is worth it, for your model, your data and your memory?

The verbs of the command line as functions that return values and print nothing::

    import paretune

    study = paretune.Study.load("topics.yaml")   # or give the verbs a path or a shipped name
    paretune.check(study).errors                 # what stands in the way; () if nothing does
    paretune.plan(study).seconds_left            # before anything starts
    paretune.run(study).summary                  # trains in processes of its own; can be resumed
    for task in paretune.report(study).tasks:    # scores with intervals, costs, verdicts
        print(task.sentences)
    paretune.why(study, "full", "lora")          # where the difference in memory lies
    paretune.watch(study).seconds_left           # how it stands, while another process runs it
    paretune.track(study, to="mlflow", into="mirror")   # a copy for an experiment tracker
    paretune.verify(study).problems              # what changed in the store since it was written
    for advice in paretune.recommend(study, max_memory="4GiB"):
        print(advice.reasons, advice.command)
    paretune.export(study).folder                # the best method's run, as a PEFT adapter
    paretune.export_slobench(study)              # its best runs answer SloBench, in a checked zip
    model, tokenizer = paretune.load(folder)     # what was exported in paretune's own form

Only names are imported here; torch and the rest come when a verb needs them.
"""

# Two rooms have a verb's name. Loading a package sets its name in its parent, once: so they are
# loaded before, and `paretune.report` and `paretune.export` stay the functions.
import paretune.export
import paretune.report  # noqa: F401 (loaded for its order)
from paretune.study import Study
from paretune.verbs.check import Checked, check
from paretune.verbs.compare import Compared, compare
from paretune.verbs.export import Exported, export
from paretune.verbs.export_slobench import export_slobench
from paretune.verbs.load import load
from paretune.verbs.plan import Plan, plan
from paretune.verbs.recommend import recommend
from paretune.verbs.report import report
from paretune.verbs.run import Ran, run
from paretune.verbs.track import Tracked, track
from paretune.verbs.verify import Verified, verify
from paretune.verbs.watch import View, watch
from paretune.verbs.why import Why, why

__all__ = [
    "Checked",
    "Compared",
    "Exported",
    "Plan",
    "Ran",
    "Study",
    "Tracked",
    "Verified",
    "View",
    "Why",
    "check",
    "compare",
    "export",
    "export_slobench",
    "load",
    "plan",
    "recommend",
    "report",
    "run",
    "track",
    "verify",
    "watch",
    "why",
]
