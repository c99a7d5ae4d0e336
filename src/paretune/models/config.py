"""A model's config, and the models that are refused by it alone, before their weights are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from paretune.errors import ModelError
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import require_known

SAFE_LOADING: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How anything of ``transformers`` is opened: nothing is fetched, no code of a folder runs."""
MAX_LAYERS = 1000
"""No published model has a quarter of it; as modules alone they would fill the memory."""


def load_config(source: ModelSource) -> Any:
    """The config of a model that can be trained here, as far as a config tells.

    Raises:
        ModelError: it cannot be used, or is that of a quantised model or of a decoder alone.
    """
    from transformers import AutoConfig

    where = f"model {source.name}"
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source.folder, **SAFE_LOADING)
    except Exception as error:  # noqa: BLE001 (each class of configs checks its fields in its own way)
        raise ModelError(
            f"its config.json cannot be used ({first_line(error)}).",
            where=where,
            remedy="Its type may be newer than the installed transformers.",
        ) from None
    _refuse_quantised(config, where)
    require_known(config, where)
    for name, count in vars(config).items():
        if name.endswith("layers") and isinstance(count, int) and count > MAX_LAYERS:
            raise ModelError(
                f"its config.json says {name}: {count:,}, which no model has.", where=where
            )
    return config


def _refuse_quantised(config: Any, where: str) -> None:
    told = getattr(config, "quantization_config", None)
    if told is None:
        return
    told = told if isinstance(told, dict) else vars(told)
    by = f" ({told['quant_method']!s:.40})" if told.get("quant_method") else ""
    raise ModelError(
        f"its weights are quantised{by}, and paretune trains on plain ones only.",
        where=where,
        remedy="Take the same model without quantisation.",
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No load report and no bars: that a head is new is normal here, and all else is checked."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
