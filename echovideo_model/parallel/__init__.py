"""One clip over several devices: its two guidance branches first, then the attention of each (Ulysses).

All of it stands outside the network, at its one seam, `EchoVideoTransformer.through_blocks`.
"""
