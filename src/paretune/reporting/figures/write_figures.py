"""Write the figures of each task as files: for a README or a paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from paretune.errors import StoreError
from paretune.file_names import make_file_name
from paretune.reporting.figures.bars import memory_figure, score_figure
from paretune.reporting.figures.memory_stack import SEGMENT_TITLES, build_memory_stack
from paretune.reporting.figures.model_size import lay_out_model_sizes
from paretune.reporting.figures.mpl_bars import STANDING_TITLES, draw_bars
from paretune.reporting.figures.mpl_points import draw_model_sizes, draw_pareto
from paretune.reporting.figures.pareto import lay_out_pareto
from paretune.reporting.model import Report, TaskReport

Draw = Callable[[Path], None]


def write_figures(
    report: Report, folder: Path, formats: Sequence[str] = ("png", "svg", "pdf")
) -> list[Path]:
    """Write the figures of each task in each format; returns the files.

    ``TASK.png`` has scores beside peak memory, for a task that has scores; ``TASK-front.png`` the
    scores over each cost, where two configurations have it; ``TASK-size.png`` score and memory
    against model size, where there are several models; ``TASK-bytes.png`` the parts of peak memory,
    where they were counted. The same records give the same bytes.

    Raises:
        StoreError: the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, task in enumerate(report.tasks):
            for suffix, draw in _lay_out_figures(task, index).items():
                for format_ in formats:
                    path = folder / f"{make_file_name(task.key)}{suffix}.{format_}"
                    if path in written:  # a task called like another one with a suffix
                        path = folder / f"{make_file_name(task.key, suffix)}.{format_}"
                    draw(path)
                    written.append(path)
    except OSError as error:
        raise StoreError(
            f"pictures cannot be written ({error.strerror}).", where=str(folder)
        ) from None
    return written


def _lay_out_figures(task: TaskReport, index: int) -> dict[str, Draw]:
    """What draws each figure of a task into a file, by the suffix of the file's name."""
    selected_on_test = ", selected on the test part" if task.selected_on_test else ""
    note = f"n = {task.basis}; whiskers: 95 % over {task.interval_scope}{selected_on_test}"
    figures: dict[str, Draw] = {}
    panels = [panel for panel in (score_figure(task, index), memory_figure(task, index)) if panel]
    if panels:
        figures[""] = lambda path: draw_bars(panels, note, STANDING_TITLES, path)
    if pareto := lay_out_pareto(task, index):
        share = f"{note}; on front: share of resamples without a cheaper, better one"
        figures["-front"] = lambda path: draw_pareto(pareto.figures, task.metric, share, path)
    if sizes := lay_out_model_sizes(task, index):
        figures["-size"] = lambda path: draw_model_sizes(sizes, note, path)
    if stack := build_memory_stack(task, index):
        basis = task.memory_table.above if task.memory_table else ""
        figures["-bytes"] = lambda path: draw_bars([stack], basis, SEGMENT_TITLES, path)
    return figures
