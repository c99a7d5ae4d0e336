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
    paretune.judge("predictions/").tasks         # the same for runs that were trained elsewhere
    paretune.compare(study, "full", "lora")      # of scores, and where that in memory lies
    paretune.watch(study).seconds_left           # how it stands, while another process runs it
    paretune.verify(study).problems              # what changed in the store since it was written
    paretune.merge(["studies/a", "studies/b"], "studies/both")   # runs of two machines in one store
    for advice in paretune.recommend(study, max_memory="4GiB"):
        print(advice)                            # sentences, and the command that exports it
    paretune.find_next_steps(study)[0].sentence  # labels to look at, more rows, longer training
    paretune.export(study).folder                # the best method's run, as a PEFT adapter
    model, tokenizer = paretune.load(folder)     # what was exported in paretune's own form

The package has a folder for each concern; docs/extend/architecture.md says what each is for. The
names of ``__init__.pyi`` are imported when they are asked for, torch and the rest with them.
"""

from importlib.metadata import version

import lazy_loader

# The names of __init__.pyi, imported when they are asked for (SPEC 1 of Scientific Python).
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("paretune")
