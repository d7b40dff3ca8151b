"""What fastbox is measured by: each case beside the kernel's own cost and beside other engines, in
one run, in turns. ``python -m bench`` (``make bench``) runs it and writes ``bench/results/``."""
