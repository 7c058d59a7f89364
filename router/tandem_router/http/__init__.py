"""HTTP/1.1 on raw asyncio protocols, for what is hot: requests in, legs to workers, answers out."""
