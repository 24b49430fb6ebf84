"""Runs contenders in processes of their own, in turn."""
