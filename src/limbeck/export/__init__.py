"""Leaving the house: plain transformers folders."""
