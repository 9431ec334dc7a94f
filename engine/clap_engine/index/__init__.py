"""The derived side of a collection: packed vectors, their prefixes, and the coarse index.

In:  stored vectors float16 [N, D], unit rows.
Out: shortlists on dims [:32] and exact scores on all D.
Knows nothing about clips' keys, metadata or SQLite.
"""
