// Reads an answer as it comes: counts server-sent events, and finds the stamps that the mock engine left in the text.
#include <string.h>

#include "load.h"

#define STAMP_DIGITS 16

static bool read_stamp(const char *digits, uint64_t *stamp) {
    *stamp = 0;
    for (int i = 0; i < STAMP_DIGITS; i++) {
        char digit = digits[i];
        bool decimal = digit >= '0' && digit <= '9';
        if (!decimal && (digit < 'a' || digit > 'f')) return false;
        *stamp = *stamp << 4 | (uint64_t)(decimal ? digit - '0' : digit - 'a' + 10);
    }
    return true;
}

static void take_stamp(struct measured *m, const struct client *c, const char *line, size_t size) {
    const char *mark = memmem(line, size, "@@", 2);
    uint64_t stamp;
    if (!mark || mark + 2 + STAMP_DIGITS > line + size || !read_stamp(mark + 2, &stamp)) return;
    samples_add(&m->transit, c->now > stamp ? c->now - stamp : 0);
}

static void take_event(struct load *load, struct client *c) {
    struct measured *m = &load->measured;
    c->events++;
    if (m->on) {
        m->events++;
        if (c->last)
            samples_add(&m->gap, c->now - c->last);
        else
            samples_add(&m->first, c->now - c->asked);
    }
    if (!c->first) c->first = c->now;
    c->last = c->now;
}

// A line of a stream, or the whole of another answer.
static void take_line(struct load *load, struct client *c, const char *line, size_t size) {
    if (load->options.mode != NONSTREAM) {
        if (size < 7 || memcmp(line, "data: ", 6) || line[6] == '[') return;
        // The last event of a stream may hold the usage alone; only those with a stamp are tokens.
        if (!memmem(line, size, "@@", 2)) return;
        take_event(load, c);
    }
    if (load->measured.on) take_stamp(&load->measured, c, line, size);
}

struct reading {
    struct load *load;
    struct client *client;
};

static void take_bytes(void *context, const char *bytes, size_t size) {
    struct reading *reading = context;
    struct client *c = reading->client;
    const char *end;
    while (size && (end = memchr(bytes, '\n', size))) {
        size_t part = (size_t)(end - bytes);
        if (c->line.size) {
            buffer_append(&c->line, bytes, part);
            take_line(reading->load, c, buffer_bytes(&c->line), c->line.size);
            buffer_take(&c->line, c->line.size);
        } else {
            take_line(reading->load, c, bytes, part);
        }
        bytes = end + 1;
        size -= part + 1;
    }
    if (size) buffer_append(&c->line, bytes, size);
}

static void end_line(struct load *load, struct client *c) {
    if (c->line.size) take_line(load, c, buffer_bytes(&c->line), c->line.size);
    buffer_take(&c->line, c->line.size);
}

enum http_result read_answer(struct load *load, struct client *c) {
    if (c->state == READS_HEAD) {
        enum http_result result = http_parse_head(buffer_bytes(&c->in), c->in.size, &c->head);
        if (result != HTTP_COMPLETE) return result;
        if (!c->head.chunked && c->head.content_length < 0) return HTTP_BROKEN;
        buffer_take(&c->in, c->head.size);
        c->body = http_body_of(&c->head);
        c->state = READS_BODY;
    }
    struct reading reading = {load, c};
    if (c->in.size)
        buffer_take(&c->in, http_body_feed(&c->body, buffer_bytes(&c->in), c->in.size, take_bytes, &reading));
    if (c->body.state == BODY_BROKEN) return HTTP_BROKEN;
    if (c->body.state != BODY_DONE) return HTTP_PARTIAL;
    end_line(load, c);
    return HTTP_COMPLETE;
}
