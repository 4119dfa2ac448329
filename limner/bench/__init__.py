"""Speed and memory beside the official code, and beside what the machine allows.

A *subject* (`limner.bench.subjects`) says what one step is, for limner and for the official code.
Each of the two runs in a process of its own (`limner.bench.worker`), so that its peak memory is its
own; their steps alternate (`limner.bench.comparison`), so that whatever else the machine does meets
both alike. Products, convolutions and memory traffic of a step (`limner.bench.work`) are measured
alone (`limner.bench.ceilings`): the time that they alone need is what no program could go below.
"""
