// Bytes that are appended at the end and taken from the front.
#pragma once
#include <stddef.h>
#include <sys/types.h>

struct buffer {
    char *memory;
    size_t start, size, room;
};

static inline char *buffer_bytes(const struct buffer *b) {
    return b->memory + b->start;
}

void buffer_append(struct buffer *b, const void *bytes, size_t size);
void buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_take(struct buffer *b, size_t taken);
void buffer_free(struct buffer *b);

// Reads once from / writes once to a socket. Bytes moved; 0: would block; -1: the other side is gone.
ssize_t buffer_receive(struct buffer *b, int socket, size_t at_most);
ssize_t buffer_send(struct buffer *b, int socket);
