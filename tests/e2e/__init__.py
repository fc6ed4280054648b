"""What a company would notice on a real cluster. `scripts/e2e` runs these; `scripts/test` leaves them out."""
