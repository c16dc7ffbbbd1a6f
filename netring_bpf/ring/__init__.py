"""The C core (rings, dissection, flow table), and its one Python owner."""
