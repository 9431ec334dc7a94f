"""Answers: a question in words, what a collection says to it, and with which evidence.

In:  a question; a collection that is searched.
Out: a plan, citations of clips and spans, and sentences that name them.
Knows nothing about how clips are stored or found.
"""
