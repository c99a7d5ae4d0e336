"""What `import paretune` offers, and where it is."""

from .contrib.trackers import TrackResult as TrackResult
from .contrib.trackers import track as track
from .errors import ParetuneError as ParetuneError
from .study import Study as Study
from .verbs.check import CheckResult as CheckResult
from .verbs.check import check as check
from .verbs.compare import (
    ComparisonResult as ComparisonResult,
)
from .verbs.compare import (
)
from .verbs.compare import (
    compare as compare,
)
from .verbs.compare import (
)
from .verbs.deploy import Deployment as Deployment
from .verbs.deploy import deploy as deploy
from .verbs.export import ExportResult as ExportResult
from .verbs.export import export as export
from .verbs.export import load as load
from .verbs.plan import Plan as Plan
from .verbs.plan import plan as plan
from .verbs.recommend import find_next_steps as find_next_steps
from .verbs.recommend import recommend as recommend
from .verbs.report import report as report
from .verbs.run import RunResult as RunResult
from .verbs.run import run as run
from .verbs.stores import (
    MergeResult as MergeResult,
)
from .verbs.stores import (
    VerifyResult as VerifyResult,
)
from .verbs.stores import (
    merge as merge,
)
from .verbs.stores import (
    verify as verify,
)
from .verbs.tune import TuneResult as TuneResult
from .verbs.tune import tune as tune
from .verbs.watch import StudyProgress as StudyProgress
from .verbs.watch import watch as watch

__version__: str

__all__: list[str]
