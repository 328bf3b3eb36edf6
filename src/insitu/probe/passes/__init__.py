"""The compiler's passes, one per file, in the order: macros, scopes, attach, check; then codegen."""
