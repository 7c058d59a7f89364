"""Names and values as people type them. No training fact has them: they show what a newcomer sees."""

NAMES = (
    "animal", "answer", "author", "bird", "bucket", "capital", "car", "city", "code", "colour", "country",
    "currency", "customer", "database", "day", "deadline", "dinner", "door code", "drink", "drummer",
    "email", "favourite_fruit", "flavour", "flower", "fruit", "gate", "host", "hotel", "invoice", "key",
    "language", "level", "limit", "locker", "lunch", "meeting", "model", "month", "name", "number", "owner",
    "password", "pet", "phone", "pin", "planet", "port", "price", "queue", "region", "replicas", "retries",
    "room", "score", "season", "secret", "server", "shape", "size", "sport", "table", "team", "temperature",
    "time", "timeout", "token", "town", "train", "user", "version", "weather", "wifi password", "winner",
    "year", "zip",
)  # fmt: skip

VALUES = (
    "blue", "8443", "swordfish", "Paris", "Ada Lovelace", "42", "robin", "red", "apple", "green tea",
    "Monday", "23 May", "9.99", "euro", "Norway", "postgres", "localhost", "10.0.0.7", "false", "true",
    "yes", "no", "vanilla", "tulip", "us-east-1", "platform 9", "B12", "4711", "Python", "seven", "large",
    "3", "500", "30s", "correct horse battery staple", "hunter2", "ada@example.com", "Saturn", "cat",
    "555-0199", "2026-11-22", "18:30", "chess", "winter", "triangle", "INV-1042", "pasta", "room 101",
    "Amsterdam", "Alan Turing", "v1.2.3", "0", "100%", "rainy", "Tesla", "s3cr3t!", "spades", "21.5",
    "The Beatles", "Ringo", "90210", "https://example.com", "rose", "silver", "tomorrow", "gold", "12 kg",
)  # fmt: skip

ALL = frozenset(NAMES) | frozenset(VALUES)
