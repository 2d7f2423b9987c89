"""Trace a model, name its activation sites, rewrite it to a canonical graph, and prove it equal."""

from .audit import Audit, Entry, Role, audit
from .check import check
from .prepare import PreparedGraph, Proof, prepare
from .sites import Site

__all__ = ["PreparedGraph", "Proof", "Site", "prepare"]
