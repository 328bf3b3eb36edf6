"""A compiled script on its way through the kernel: load, attach, drain, decode."""
