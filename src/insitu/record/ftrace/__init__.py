"""What is switched on in tracefs: events, filters, triggers, tracers."""
