"""The compiler's passes, one per file, in the order: macros, attach, check; then codegen."""
