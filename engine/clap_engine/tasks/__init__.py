"""What an engine is good for besides search: classify, detect, moderate, probe, rank, separate.

In:  sounds, labels in words, examples, policies.
Out: small records; everything is deterministic and needs nothing beyond the runtime.
Knows nothing about the command line or HTTP.
"""
