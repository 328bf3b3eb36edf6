"""Guests: QEMU machines, their memory, shares, streams, snapshots and failures."""
