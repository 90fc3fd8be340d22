"""The checks of `tests/conformance.py`; see there."""
