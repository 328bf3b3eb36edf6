"""Filter expressions in sysdig's language: ``fd.name contains /etc and not proc.name = cat``."""
