"""Descents beside the flow."""

from .figures import figures as figures
