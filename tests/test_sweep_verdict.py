"""A seeded tenth of the sweep's quick pairs: no planted fault passes, no honest pair fails (scripts/sweep_verdict.py has them all)."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from sweep import run
from sweep.case import Case, Group, chosen
from sweep.examine import JUDGED, Result, examine, mistake

SHARE, SEED = 0.1, 20261129
QUICK = {group.name: group for group in run.groups() if group.quick}


def tenth(group: Group) -> list[Case]:
    return [case for case in group.cases() if case.quick and chosen(case.key, SHARE, SEED)]


def told(result: Result) -> str:
    return f"{result['key']}: {result['status']}, {result.get('moved') or result.get('measured')}, {result['reason']}"


@pytest.mark.parametrize("name", QUICK)
def test_the_verdict_makes_no_mistake_on_a_tenth_of_the_pairs(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [examine(case) for case in tenth(QUICK[name])]
    wrong = [told(result) for result in results if mistake(result)]
    assert not wrong, "\n".join(wrong)
    assert not [result["key"] for result in results if result["state"] == "broken"]
    assert any(result["state"] in JUDGED for result in results), "no pair of this group was judged"
