"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The machine may be busy with something else: no test measures time.
settings.register_profile("builder", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("builder")
