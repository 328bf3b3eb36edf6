"""The targets: functions that return what gives an input to a parser."""
