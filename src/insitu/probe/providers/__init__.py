"""Probe kinds, one module each: to add a kind, write its module and name it here."""

from insitu.probe.providers import (
    counter,
    fentry,
    iter,
    kprobe,
    own,
    rawtracepoint,
    timer,
    tracepoint,
    uprobe,
    usdt,
    watchpoint,
)
from insitu.probe.providers.base import Provider

__all__ = ["PROVIDERS"]

_ALL: tuple[Provider, ...] = (
    *own.PROVIDERS,
    *kprobe.PROVIDERS,
    *fentry.PROVIDERS,
    tracepoint.PROVIDER,
    rawtracepoint.PROVIDER,
    *uprobe.PROVIDERS,
    usdt.PROVIDER,
    *timer.PROVIDERS,
    *counter.PROVIDERS,
    watchpoint.PROVIDER,
    iter.PROVIDER,
)

PROVIDERS: dict[str, Provider] = {name: provider for provider in _ALL for name in provider.names}
"""Every name and alias of a probe kind, and who provides it. The first of ``provider.names`` is the kind itself."""
