"""All the networks of the sweep, by framework: each framework is imported only where its networks are made."""

from __future__ import annotations

from importlib import import_module

from sweep.case import Network

FRAMEWORKS = {"pytorch": "torch", "tensorflow": "keras", "mxnet": "mxnet", "onnx": "onnx"}


def networks(framework: str) -> list[Network]:
    found: list[Network] = import_module(f"sweep.networks_{FRAMEWORKS[framework]}").networks()
    return found


def all_networks() -> list[Network]:
    return [network for framework in FRAMEWORKS for network in networks(framework)]
