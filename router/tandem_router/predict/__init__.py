"""What a request would take on a pair of workers: predicted before it is sent, learned from what came."""
