"""Desired state, pure: a resource in, the manifests of its children out."""

from tandem_operator.desired.service import children
from tandem_operator.desired.workers import pool_children

__all__ = ["children", "pool_children"]
