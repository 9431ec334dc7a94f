"""Two models side by side: what they find, name and tell apart, how fast, how large.

In:  two bundles and a set of sounds, or ready embeddings of both with labels.
Out: `Comparison`: figures with their intervals, and a page of them in HTML.
Knows nothing about the command line or HTTP. Needs numpy and the runtime, nothing else.
"""

from clap_engine.comparison.results import Comparison, Figure, Model, Rung
from clap_engine.comparison.runs import compare, compare_async, compare_rows

__all__ = ["Comparison", "Figure", "Model", "Rung", "compare", "compare_async", "compare_rows"]
