"""Every function of the tests' list to ONNX, as it is written and by keyword: right at two sizes, or why not.

python scripts/sweep_pytorch_functions.py            all, some minutes on one core
python scripts/sweep_pytorch_functions.py scatter    those whose expression holds a word
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main(words: list[str]) -> None:
    from pytorch_calls import called, expressions, known_forms
    from pytorch_oracle import check

    counts: dict[str, Counter[str]] = {"as written": Counter(), "by keyword": Counter()}
    for shapes, text in expressions():
        if words and not any(word in text for word in words):
            continue
        forms = known_forms(text, shapes)
        for way, given in {"as written": None, "by keyword": forms or False}.items():
            if given is False:
                continue
            try:
                check(called(text, len(shapes), given), *shapes, tolerance=3e-5)
                found = "right"
            except Exception as error:
                found = "wrong" if isinstance(error, AssertionError) else "refused"
                print(f"{found} {way}: {text}: {' '.join(str(error).split())[:200]}", flush=True)
            counts[way][found] += 1
    for way, count in counts.items():
        print(
            f"{way}: {count['right']} of {count.total()} right, {count['wrong']} wrong, {count['refused']} refused"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    main(sys.argv[1:])
