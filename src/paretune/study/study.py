"""A study file: many runs under one protocol. Its shape alone is checked: no data and no model."""

from __future__ import annotations

import os
import posixpath
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from paretune.files import expand_home
from paretune.study.data_frame import is_data_frame, save_data_frame
from paretune.study.protocol import MAX_COUNTS, Checks, Generation, Limits, Protocol, Training
from paretune.study.run import Run, digest, omit_defaults
from paretune.study.specs import (
    COMMAND,
    FILE_KEYS,
    NOT_IDENTIFYING,
    PATH_KEYS,
    SHIPPED_LANGUAGES,
    UNNAMED_MODEL,
    FrozenModel,
    MethodSpec,
    ModelSpec,
    is_path,
)
from paretune.study.study_file import (
    LIST_KEYS,
    KeyPath,
    StudyFile,
    as_entries,
    read_study_file,
)
from paretune.study.task_spec import TaskSpec
from paretune.study.validation_errors import build_study_error, refuse_unusual_values
from paretune.terminal.notebook import html_lines, html_table

MAX_NAME_LENGTH = 100
LANGUAGE_KEYS = ("source_lang", "target_lang")


def _limit_entries(value: Any, info: ValidationInfo) -> Any:
    """Refuse a list that is too long before each of its entries is validated."""
    section = str(info.field_name)
    limit = MAX_COUNTS[section]
    if isinstance(value, list | tuple) and len(value) > limit:
        raise ValueError(
            f"{len(value)} {section} are more than one study may have ({limit}); "
            "split it into several studies"
        )
    return as_entries(value)


def _check_names(spec: Any) -> Any:
    """Check that names and labels, which become parts of paths, are printable, short and plain."""
    if isinstance(spec, TaskSpec):
        names = {key: getattr(spec, key) for key in ("name", "language", *LANGUAGE_KEYS)}
        for part, count in (spec.limit or {}).items():
            if count < 1:
                raise ValueError(f"limit: {part}: {count} is less than 1")
    else:
        names = {"label": spec.label, "name": spec.key}
    for key, name in names.items():
        if name is None:
            continue
        if len(name) > MAX_NAME_LENGTH:
            raise ValueError(
                f"its {key} has {len(name)} characters; {MAX_NAME_LENGTH} are the most"
            )
        if not name.isprintable():
            raise ValueError(f"its {key} holds a character that cannot be printed; remove it")
        if "/" in name or "\\" in name or name.strip(" .") != name or not name:
            raise ValueError(
                f'its {key} "{name}" holds a slash, or a dot or space at an end; folders are named '
                f"by it, so give it another {'label' if key == 'name' else key}"
            )
    return spec


class Study(FrozenModel):
    """A study file: many runs under one protocol and budget.

    ``forgetting`` is the text on which the mean token loss of language models is compared before
    and after training: ``sl``, ``en`` (the shipped text in that language) or a file. ``limits`` say
    what may be recommended at all. ``title`` is the question at the head of a report.
    """

    study: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    tasks: Annotated[
        tuple[Annotated[TaskSpec, AfterValidator(_check_names)], ...],
        BeforeValidator(_limit_entries),
        Field(min_length=1),
    ]
    models: Annotated[
        tuple[Annotated[ModelSpec, AfterValidator(_check_names)], ...],
        BeforeValidator(_limit_entries),
        Field(min_length=1),
    ] = (UNNAMED_MODEL,)
    methods: Annotated[
        tuple[Annotated[MethodSpec, AfterValidator(_check_names)], ...],
        BeforeValidator(_limit_entries),
        Field(min_length=1),
    ]
    protocol: Protocol = Protocol()
    training: Training = Training()
    generation: Generation = Generation()
    checks: Checks = Checks()
    limits: Limits = Limits()
    forgetting: Annotated[str, Field(min_length=1)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    _written_paths: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _overrides: tuple[str, ...] = PrivateAttr(())
    _typed: str = PrivateAttr("")
    _file: StudyFile | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check_distinct(self) -> Study:
        for section in LIST_KEYS:
            counts = Counter(item.key for item in getattr(self, section))
            for key in (key for key, count in counts.items() if count > 1):
                change = "name" if section == "tasks" else "label"
                raise ValueError(f"{section}: {key} is named twice; give one another {change}")
        if UNNAMED_MODEL in self.models and len(self.commands) < len(self.methods):
            raise ValueError('the key "models" is missing; only commands need no model')
        protocol = self.protocol
        names = [method.key for method in self.all_methods]
        if protocol.reference not in (None, *names):
            raise ValueError(f"reference: {protocol.reference} is none of {', '.join(names)}")
        cells = len(self.tasks) * len(self.models) * len(names)
        seeds = len(protocol.seeds)
        parts = seeds if isinstance(protocol.outer, int) else protocol.folds
        trials = protocol.trials * parts if protocol.preset == "trials" else 0
        runs = cells * (trials + seeds + 1)
        if runs > MAX_COUNTS["runs"]:
            raise ValueError(
                f"it asks for {runs} runs, more than one study may have ({MAX_COUNTS['runs']}); "
                "split it into several studies"
            )
        return self

    @classmethod
    def load(
        cls, path: Path | str, overrides: Iterable[str] = (), *, called: str | None = None
    ) -> Study:
        """Read a study file (YAML 1.2: ``1e-3`` is a number and ``no`` is a word).

        Args:
            path: path of the file; paths in it are relative to its folder.
            overrides: settings that replace those of the file: ``training.epochs=3``. The
                environment variable ``PARETUNE_BACKEND`` adds ``training.backend``.
            called: name that a command gives to the file; its path by default.

        Raises:
            StudyError: the file cannot be read, is not YAML, or does not have the form of a study.
                The error names every fault with its line.
        """
        overrides = settings = tuple(overrides)
        backend, key = os.environ.get("PARETUNE_BACKEND", ""), "training.backend="
        if backend and not any(text.startswith(key) for text in overrides):
            settings = (f"{key}{backend}", *overrides)
        file = read_study_file(Path(path)).override(settings)
        study = cls._from_file(file, Path(path).parent)
        study._overrides, study._file = settings, file
        study._typed = shlex.join([called or str(path), *overrides])
        return study

    @classmethod
    def parse(
        cls,
        raw: Mapping[str, Any],
        overrides: Iterable[str] = (),
        *,
        where: str = "study",
        base: Path = Path(),
    ) -> Study:
        """Build a study from plain values and settings that replace some of them.

        A DataFrame (pandas, polars) or a ``datasets.Dataset`` may stand where a data file is named.
        Its rows are written to ``data-HASH.parquet`` in ``base``.

        Raises:
            StudyError: the values are not a study; the error has one line for each fault.
            DataError: a table cannot be written as Parquet.
        """
        values = dict(raw)
        if isinstance(values.get("tasks"), list | tuple):
            values["tasks"] = [
                {
                    key: save_data_frame(item, base).name
                    if key in FILE_KEYS and is_data_frame(item)
                    else item
                    for key, item in task.items()
                }
                if isinstance(task, Mapping)
                else task
                for task in values["tasks"]
            ]
        file = StudyFile(values, where)
        return cls._from_file(file.override(overrides), base)

    @classmethod
    def _from_file(cls, file: StudyFile, base: Path) -> Study:
        refuse_unusual_values(file, file.values)
        try:
            study = cls.model_validate(file.values)
        except ValidationError as error:
            raise build_study_error(error, cls, file) from None
        return study._resolve_paths(base)

    def _repr_html_(self) -> str:
        protocol, training = self.protocol, self.training
        steps = training.max_steps
        length = f"{steps} steps" if steps is not None else f"{training.epochs} epochs"
        rows = [
            ("tasks", ", ".join(task.key for task in self.tasks)),
            ("models", ", ".join(model.key for model in self.models)),
            ("methods", ", ".join(method.key for method in self.methods)),
            ("seeds", ", ".join(map(str, protocol.seeds))),
            ("learning rates on trial", protocol.trials),
            ("tested", protocol.outer),
            ("training", f"{length}, batch {training.batch_size}"),
        ]
        return html_lines([f"study {self.study}"], bold=True) + html_table(("", ""), rows)

    @property
    def all_methods(self) -> tuple[MethodSpec, ...]:
        """The methods that the study names or that a proposer adds, each once."""
        entered: dict[str, MethodSpec] = {}
        for method in self.methods:
            entered[method.key] = method
            if (proposer := method.proposer) is not None:
                written = [m.options_of_runs for m in self.methods if m.name == method.name]
                for row in proposer.list_rows(method):
                    if row.options not in written:
                        entered.setdefault(row.key, row)
        return tuple(entered.values())

    @property
    def commands(self) -> tuple[MethodSpec, ...]:
        """The methods that are programs of the user."""
        return tuple(method for method in self.methods if method.is_command)

    @property
    def is_judged(self) -> bool:
        """Whether its runs were trained elsewhere (:mod:`paretune.judging`)."""
        return self.protocol.preset == "judged"

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings from the command line, as written there."""
        return self._overrides

    @property
    def typed(self) -> str:
        """The command-line arguments that name the study, quoted for a shell; else its name."""
        return self._typed or self.study

    def locate(self, place: KeyPath, words: str) -> str:
        """Return where the file says something, for errors: ``s.yaml line 7: training.epochs``.

        Args:
            place: path of keys; the second key of a method is its ``key``: ``("methods", "lora",
                "rank")``.
            words: text at that place; it is returned alone for a study without a file.
        """
        if self._file is None:
            return words
        if place[0] == "methods":
            entries = as_entries(self._file.values["methods"])
            keys = [entry.get("label") or entry.get("name") for entry in entries]
            if place[1] not in keys:  # a proposer has added the method
                return words
            place = ("methods", keys.index(place[1]), *place[2:])
        return self._file.locate(place, words)

    def _resolve_paths(self, base: Path) -> Study:
        """Make paths absolute; those of a study file are relative to it.

        The study's hash has them only as they are written. So a study that is moved or copied with
        its data is still the same study.
        """
        written_paths: dict[str, str] = {}

        def resolve_file(value: str | None, *, stem: bool) -> str | None:
            """Resolve a path; with ``stem`` the file may be named without its extension."""
            if value is None or Path(value).is_absolute():
                return value
            path = base / value
            if not (stem or path.exists() or "." in Path(value).name):
                return value
            written_paths[str(path.resolve())] = posixpath.normpath(value)
            return str(path.resolve())

        def resolve_folder(name: str | None) -> str | None:
            if name is None or not is_path(name):
                return name
            resolved = str((base / expand_home(name)).resolve())
            if not name.startswith("/"):
                # A leading dot marks a folder, not a hub name.
                normal = posixpath.normpath(name)
                dotted = normal if normal.startswith("..") else f"./{normal}"
                written_paths[resolved] = name if name.startswith("~") else dotted
            return resolved

        tasks, models = [], []
        for task in self.tasks:
            is_stem = task.languages is not None
            update = {key: resolve_file(getattr(task, key), stem=is_stem) for key in FILE_KEYS}
            update["source"] = resolve_folder(task.source)
            tasks.append(task.model_copy(update=update))
        for model in self.models:
            # The label stays the name that the study gave.
            label = model.key if model.label or is_path(model.name) else None
            name = resolve_folder(model.name)
            models.append(model.model_copy(update={"name": name, "label": label}))
        methods = []
        for method in self.methods:
            if method.is_command:
                folder = base / expand_home(str(method.options.get("folder", "")))
                method = method.model_copy(update={"folder": str(folder.resolve())})
            methods.append(method)
        forgetting = self.forgetting
        if forgetting not in SHIPPED_LANGUAGES:
            forgetting = resolve_file(forgetting, stem=True)
        study = self.model_copy(
            update={
                "tasks": tuple(tasks),
                "models": tuple(models),
                "methods": tuple(methods),
                "forgetting": forgetting,
            }
        )
        study._written_paths = written_paths
        return study

    def relocate(self, run: Run) -> Run:
        """Return a stored run with its data and model where this study has them now."""
        task = next((t for t in self.tasks if t.key == run.task.key), run.task)
        model = next((m for m in self.models if m.key == run.model.key), run.model)
        update: dict[str, Any] = {}
        moved = {
            key: getattr(task, key)
            for key in PATH_KEYS
            if getattr(run.task, key) != getattr(task, key)
        }
        if moved:
            update["task"] = run.task.model_copy(update=moved)
        if model.name != run.model.name and is_path(model.name) and is_path(run.model.name):
            update["model"] = run.model.model_copy(update={"name": model.name})
        for method in self.commands:
            present = method.key, method.identifying_options
            if present == (run.method.key, run.method.identifying_options):
                update["method"] = method
        if run.forgetting is not None and self.forgetting is not None:
            update["forgetting"] = run.forgetting.model_copy(update={"text": self.forgetting})
        return run.model_copy(update=update) if update else run

    def canonical_form(self) -> dict[str, Any]:
        """Return plain values, defaults included; equal studies have equal canonical forms.

        Paths are in it as they were written, relative to the study file.
        """
        # These settings say what is tolerated, stored, compared or said, and how long a measurement
        # may take. They change no run.
        ignored: Any = {
            "checks": True,
            "title": True,
            "protocol": {"keep_weights", "cost_seconds", "budget", "reference"},
        }
        form = omit_defaults(self.model_dump(mode="json", exclude=ignored))
        if form["protocol"]["preset"] == "trials":
            form["protocol"]["preset"] = "fair"  # the name of the preset in stores of 0.2
        for method in form["methods"]:
            for option in NOT_IDENTIFYING if method["name"] == COMMAND else ():
                method.pop(option, None)
        written = self._written_paths
        for task in form["tasks"]:
            task |= {key: written.get(task[key], task[key]) for key in PATH_KEYS if task.get(key)}
        for section, key in [*((model, "name") for model in form["models"]), (form, "forgetting")]:
            if section.get(key):
                section[key] = written.get(section[key], section[key])
        return form

    @property
    def study_hash(self) -> str:
        """The first sixteen hexadecimal digits of the canonical form's sha256."""
        return digest(self.canonical_form())[:16]
