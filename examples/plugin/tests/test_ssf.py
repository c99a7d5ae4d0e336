from paretune_ssf.ssf import METHOD

from paretune.testing import MethodContract


class TestSsf(MethodContract):
    method = METHOD
    neutral = ("scale", "shift_bias")
