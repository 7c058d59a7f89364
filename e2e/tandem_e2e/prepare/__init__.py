"""What a run needs before there is a cluster: programs and images, all cached between runs."""
