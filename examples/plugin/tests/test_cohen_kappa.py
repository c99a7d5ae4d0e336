from paretune.testing import MetricContract
from paretune_ssf.cohen_kappa import METRIC


class TestCohenKappa(MetricContract):
    metric = METRIC
