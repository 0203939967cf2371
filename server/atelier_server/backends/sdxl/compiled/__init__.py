"""UNet and decoder compiled by torch's inductor for the CPU at hand: half the time of a small model's step.

`build` runs in a process of its own and writes shared libraries to the state directory, `Compilation` starts it and
waits, `Graph` runs a library, `CompiledUNet` and `CompiledDecoder` stand in for diffusers' modules. Pictures that must
be exact are never computed here.
"""
