"""Plain results become tables, plots and pages."""
