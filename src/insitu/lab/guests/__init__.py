"""Guests: QEMU machines, their shared directories, ports, snapshots and failures."""
