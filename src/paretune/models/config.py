"""A model's config, and the models that it alone refuses, before their weights are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from paretune.errors import ModelError, first_line
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import require_known

SAFE_LOADING: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How anything is loaded by ``transformers``: nothing is fetched, and no code of a folder runs."""

MAX_TRANSLATOR_POSITIONS = 2**14
"""More than any translation model has; some compute them all, one by one, when they are made."""


def load_config(source: ModelSource) -> Any:
    """The config of a model that can be trained here, as far as a config tells.

    Raises:
        ModelError: it cannot be used, or is that of a quantised checkpoint.
    """
    from transformers import AutoConfig

    where = f"model {source.name}"
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source.folder, **SAFE_LOADING)
    except Exception as error:  # noqa: BLE001 (each config class has its own checks)
        raise ModelError(
            f"its config.json cannot be used ({first_line(error)}).",
            where=where,
            remedy="Its type may be newer than the installed transformers.",
        ) from None
    _refuse_quantised(config, where)
    require_known(config, where)
    positions = getattr(config, "max_position_embeddings", 0)
    if config.is_encoder_decoder and positions > MAX_TRANSLATOR_POSITIONS:
        raise ModelError(
            f"its config.json has max_position_embeddings: {positions:,}, which no translation "
            "model has.",
            where=where,
        )
    return config


def _refuse_quantised(config: Any, where: str) -> None:
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return
    settings = settings if isinstance(settings, dict) else vars(settings)
    method = settings.get("quant_method")
    by = f" ({method!s:.40})" if method else ""
    raise ModelError(
        f"its weights are quantised{by}; paretune quantises by itself, from unquantised weights.",
        where=where,
        remedy="Choose the same model without quantisation. quantisation: nf4 or int8 beside its "
        "name has it quantised.",
    )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No load report and no progress bars: a new head is normal here, and all else is checked."""
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
