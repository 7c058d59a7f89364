"""How requests wait in the router: who starts next, who is refused, how much each worker is given. Pure."""
