"""What `import paretune` offers, and where it is."""

from .errors import (
    ParetuneError as ParetuneError,
)
from .study import (
    Study as Study,
)
from .verbs.check import (
    CheckResult as CheckResult,
    check as check,
)
from .verbs.compare import (
    ComparisonResult as ComparisonResult,
    compare as compare,
)
from .verbs.export import (
    ExportResult as ExportResult,
    export as export,
    load as load,
)
from .verbs.judge import (
    DecisionResult as DecisionResult,
    judge as judge,
)
from .verbs.plan import (
    Plan as Plan,
    plan as plan,
)
from .verbs.recommend import (
    find_next_steps as find_next_steps,
    recommend as recommend,
)
from .verbs.report import (
    report as report,
)
from .verbs.run import (
    RunResult as RunResult,
    run as run,
)
from .verbs.stores import (
    MergeResult as MergeResult,
    VerifyResult as VerifyResult,
    merge as merge,
    verify as verify,
)
from .verbs.tune import (
    TuneResult as TuneResult,
    tune as tune,
)
from .verbs.watch import (
    StudyProgress as StudyProgress,
    watch as watch,
)

__version__: str
__all__: list[str]
