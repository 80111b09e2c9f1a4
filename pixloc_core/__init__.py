"""Visual localization by feature-metric alignment against a Structure-from-Motion map."""
