from paretune_ssf.cohen_kappa import METRIC

from paretune.testing import MetricContract


class TestCohenKappa(MetricContract):
    metric = METRIC
