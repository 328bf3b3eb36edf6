"""Other tools' formats: one module per format, import or export."""
