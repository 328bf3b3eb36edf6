"""Typed syntax tree to BPF instructions, by way of LLVM IR."""
