"""How a model's stacks are laid out, and what follows from it: a file and a value for each layout.

Code outside of this folder never asks whether a model has a decoder: it asks ``anatomy.topology``,
which :func:`topology_of` chooses from the model's config.
"""

from __future__ import annotations

from typing import Any

from paretune.models.structure.topologies.decoder import Decoder
from paretune.models.structure.topologies.encoder import Encoder
from paretune.models.structure.topologies.encoder_decoder import EncoderDecoder
from paretune.models.structure.topology import Topology

ENCODER = Encoder()
ENCODER_DECODER = EncoderDecoder()
DECODER = Decoder()


def topology_of(config: Any) -> Topology:
    """The topology of the models of a config that is not refused.

    Encoders can mask words, decoders cannot: a type that ``transformers`` has a causal LM for, and
    no masked one, is a decoder.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if getattr(config, "is_encoder_decoder", False):
        return ENCODER_DECODER
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return DECODER if causal and type(config) not in MODEL_FOR_MASKED_LM_MAPPING else ENCODER
