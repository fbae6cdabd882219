"""Every claim of the paper beside what was measured here: results/REPRODUCTION.md, and a profile on one page."""
