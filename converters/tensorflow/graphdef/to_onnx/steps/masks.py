"""A step that leaves rows out: it hands on their states, and puts out what it put out before, or zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from netferry.converters.tensorflow.graphdef.to_onnx.steps import cells
from netferry.converters.tensorflow.graphdef.to_onnx.steps.cells import Cell, Trial


@dataclass(frozen=True)
class Step:
    """A cell, or several of which each reads the one before; ``handed`` is the place of the output among the states, where the loop hands it on; ``zeros`` are put out for rows that are left out."""

    cells: tuple[Cell, ...]
    handed: int | None = None
    zeros: bool = False


def found(trial: Trial) -> Step | None:
    """What a step does that may leave rows out."""
    places = range(len(trial.states))
    for handed in (None, *places) if len(places) > 1 else (None,):
        own = [place for place in places if place != handed]
        if handed is not None and not _is_put_out(trial, handed):
            continue
        listed = cells.chain(_of_rows(trial, own))
        if listed is None:
            continue
        placed = tuple(replace(each, states=tuple(own[place] for place in each.states)) for each in listed)
        zeros = _leaves_out(trial, placed, handed)
        return None if zeros is None else Step(placed, handed, zeros)
    return None


def _is_put_out(trial: Trial, place: int) -> bool:
    return trial.item is not None and cells.close(trial.next[place], trial.item)


def _of_rows(trial: Trial, places: Sequence[int]) -> Trial:
    """The trial of the rows that count, with these states."""
    rows = slice(None) if trial.alive is None else trial.alive
    return Trial(
        trial.x[rows],
        [trial.states[place][rows] for place in places],
        trial.arrays,
        [trial.next[place][rows] for place in places],
        None if trial.item is None else trial.item[rows],
    )


def _leaves_out(trial: Trial, listed: Sequence[Cell], handed: int | None) -> bool | None:
    """Whether zeros are put out for the rows that are left out; None where these are treated in another way."""
    if trial.alive is None:
        return False if handed is None else None
    dead = ~trial.alive
    if any(
        not cells.close(trial.next[place][dead], trial.states[place][dead])
        for cell in listed
        for place in cell.states
    ):
        return None
    if trial.item is None:
        return False
    if not trial.item[dead].any():
        return True
    before = trial.states[listed[-1].states[0] if handed is None else handed][dead]
    return False if cells.close(trial.item[dead], before) else None
