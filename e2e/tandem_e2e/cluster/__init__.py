"""A control plane and a node in namespaces of their own: however a run ends, they are gone."""
