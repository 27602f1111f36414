"""The report for people: one HTML file, or tables on a terminal."""
