"""How good a bundle is on a set of sounds with captions or labels: retrieval and zero-shot.

In:  a bundle, a folder in one of the layouts of `layouts.py`.
Out: `Evaluation`: every figure with its interval, per precision and rung of the ladder.
Knows nothing about the command line or HTTP. Needs numpy and the runtime, nothing else.
"""

from clap_engine.evaluation.bootstrap import Estimate
from clap_engine.evaluation.results import Evaluation, PrecisionResult, RungResult
from clap_engine.evaluation.runs import evaluate
from clap_engine.evaluation.sets import Clip, EvaluationSet, read

__all__ = [
    "Clip",
    "Estimate",
    "Evaluation",
    "EvaluationSet",
    "PrecisionResult",
    "RungResult",
    "evaluate",
    "read",
]
