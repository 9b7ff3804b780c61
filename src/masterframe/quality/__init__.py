"""How good frames and masters are: numbers, limits, and verdicts that say which is which.

`sketch` measures one raw frame, `frames` compares those of a group before they are combined,
`masters` tests what came out, `detector` tells gain, read noise and dark current from the tables
of masters, and `archive` does all of it to a folder of products.
"""
