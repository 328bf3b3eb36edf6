"""Attach points of a script: names that are none."""

import pytest

from insitu.probe.providers import PROVIDERS
from insitu.probe.source import ScriptError

from .probe_scripts import checked


def test_an_unknown_kind_is_an_error_with_the_nearest_name_whatever_kinds_were_used_before():
    for kind in PROVIDERS:
        assert kind in PROVIDERS[kind].names
    with pytest.raises(ScriptError, match="did you mean 'interval'"):
        checked("intervall:s:1 { exit(); }")
