"""The compiler's passes, one per file; in order: macros, library, scopes, functions, attach, check; then codegen."""
