#include "buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "memory.h"

#define USUAL_LINE 512  // formatted text that fits in one go

// Room for `wanted` bytes behind the last one.
static char *space(struct buffer *b, size_t wanted) {
    if (b->start + b->size + wanted > b->room) {
        if (b->start) memmove(b->memory, b->memory + b->start, b->size);
        b->start = 0;
        if (b->size + wanted > b->room) {
            b->room = 2 * (b->size + wanted);
            b->memory = regrow(b->memory, b->room, 1);
        }
    }
    return b->memory + b->start + b->size;
}

void buffer_append(struct buffer *b, const void *bytes, size_t size) {
    memcpy(space(b, size), bytes, size);
    b->size += size;
}

static int try_printf(struct buffer *b, size_t room, const char *format, va_list arguments) {
    va_list copy;
    va_copy(copy, arguments);
    int length = vsnprintf(space(b, room), room, format, copy);
    va_end(copy);
    return length;
}

void buffer_printf(struct buffer *b, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = USUAL_LINE;
    int length = try_printf(b, room, format, arguments);
    if ((size_t)length >= room) try_printf(b, (size_t)length + 1, format, arguments);
    va_end(arguments);
    b->size += (size_t)length;
}

void buffer_take(struct buffer *b, size_t taken) {
    b->start += taken;
    b->size -= taken;
    if (!b->size) b->start = 0;
}

void buffer_free(struct buffer *b) {
    free(b->memory);
    *b = (struct buffer){0};
}

ssize_t buffer_receive(struct buffer *b, int socket, size_t at_most) {
    ssize_t got = recv(socket, space(b, at_most), at_most, MSG_DONTWAIT);
    if (got > 0) b->size += (size_t)got;
    if (got < 0) return errno == EAGAIN ? 0 : -1;
    return got ? got : -1;
}

ssize_t buffer_send(struct buffer *b, int socket) {
    ssize_t sent = send(socket, buffer_bytes(b), b->size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    buffer_take(b, (size_t)sent);
    return sent;
}
