from paretune.testing import MethodContract
from paretune_ssf.ssf import METHOD


class TestSsf(MethodContract):
    method = METHOD
    neutral = ("scale", "shift_bias")
