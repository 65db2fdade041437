"""Settings for all tests."""

from hypothesis import settings

# The cores are shared: how long an example takes says nothing.
settings.register_profile("mixpriv", deadline=None)
settings.load_profile("mixpriv")
