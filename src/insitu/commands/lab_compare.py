"""Placeholder."""

import argparse


def arguments(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None: ...
