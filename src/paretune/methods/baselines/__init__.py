"""What always stands beside the methods under comparison; which of them, an objective says.

Nothing here imports torch, since analysis and reports ask which methods are baselines.
"""

from paretune.methods.baselines import (
    copy_source,
    few_shot,
    frequent_text,
    gradient_boosting,
    head_only,
    majority,
    nearest_text,
    tfidf,
    untuned,
)
from paretune.methods.core.method import Baseline, Method, Trains

_ALL = (
    *(majority.METHOD, tfidf.METHOD, gradient_boosting.METHOD, copy_source.METHOD),
    *(frequent_text.METHOD, nearest_text.METHOD, head_only.METHOD, untuned.METHOD),
    few_shot.METHOD,
)

NAMES = frozenset(method.name for method in _ALL)
WITH_MODEL = frozenset(method.name for method in _ALL if isinstance(method, Method))
"""Those that use a model, and so stand beside the methods once for each model."""
TRAINS_NOTHING = frozenset(
    method.name for method in _ALL if isinstance(method, Method) and method.trains is Trains.NOTHING
)
"""Those with a model as it comes, whose training cannot fail."""
DRAWS_NOTHING = TRAINS_NOTHING - {few_shot.METHOD.name}
"""Those of which every run is the same, whatever its seed."""
WITHOUT_TRAINING = (untuned.METHOD.name, few_shot.METHOD.name)
"""What stands beside the methods where a model can answer without training."""
TRIVIAL = frozenset(
    method.name for method in _ALL if isinstance(method, Baseline) and not method.is_useful
)
"""Those that are scores to be exceeded, and never recommended."""
CONSTANT = frozenset({majority.METHOD.name, frequent_text.METHOD.name})
"""Those that give every example the same answer, as they shall."""
COMPLEXITY = {method.name: method.complexity for method in _ALL if isinstance(method, Baseline)}
"""Of those without a model: what decides between equal scores."""
