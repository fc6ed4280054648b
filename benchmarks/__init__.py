"""What ELF costs beside a reference, in one run; `scripts/bench` runs each module."""
