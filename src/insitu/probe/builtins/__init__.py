"""The language's builtin variables and functions, by family. Each module adds its own to the two registries."""
