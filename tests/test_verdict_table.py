"""The table: pairs of models with known verdicts, and how far apart the two kinds lie."""

from __future__ import annotations

import pytest
from verdict_pairs import TABLE

import netferry


@pytest.mark.parametrize("name", TABLE)
def test_every_pair_gets_its_verdict(name: str) -> None:
    make, verdict = TABLE[name]
    a, b, inputs, free = make()
    report = netferry.verify(a, b, inputs, dynamic=free)
    assert report.status == verdict, report.to_text()
