"""What probe kinds share: matching of names, binaries, signatures, perf events, detaching."""
