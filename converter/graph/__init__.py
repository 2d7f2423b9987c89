"""Trace a model, name its activation sites, rewrite it to a canonical graph, and prove it equal."""

from .activation import activation
from .audit import Audit, Entry, Role, audit
from .check import check
from .prepare import PreparedGraph, prepare
from .proof import Proof
from .sites import Site

__all__ = ["Audit", "Entry", "PreparedGraph", "Proof", "Role", "Site", "activation", "audit", "check", "prepare"]
