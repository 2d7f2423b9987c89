"""Property tests draw the same examples every time: a suite that passes once passes on every machine."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")
