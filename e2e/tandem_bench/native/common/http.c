#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *header(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    if (!found) return NULL;
    found += strlen(name);
    return found + strspn(found, " ");
}

enum http_result http_parse_head(char *bytes, size_t size, struct http_head *head) {
    char *end = size ? memmem(bytes, size, "\r\n\r\n", 4) : NULL;
    if (!end) return HTTP_PARTIAL;
    *head = (struct http_head){.content_length = -1, .size = (size_t)(end - bytes) + 4};

    // The string functions need an end: the last line's '\r' lends its place to a zero for a moment.
    char lent = end[2];
    end[2] = 0;
    const char *length = header(bytes, "\r\ncontent-length:");
    const char *coding = header(bytes, "\r\ntransfer-encoding:");
    const char *expect = header(bytes, "\r\nexpect:");
    if (length) head->content_length = strtol(length, NULL, 10);
    head->chunked = coding && !strncasecmp(coding, "chunked", 7);
    head->expects_continue = expect && !strncasecmp(expect, "100-continue", 12);
    bool response = !strncmp(bytes, "HTTP/1.", 7);
    int parts = response ? sscanf(bytes + 8, " %d", &head->status) + 1
                         : sscanf(bytes, "%7s %255s", head->method, head->path);
    end[2] = lent;
    return parts == 2 ? HTTP_COMPLETE : HTTP_BROKEN;
}

struct http_body http_body_of(const struct http_head *head) {
    struct http_body body = {.chunked = head->chunked, .state = BODY_SIZE};
    if (!head->chunked) {
        body.left = head->content_length > 0 ? (size_t)head->content_length : 0;
        body.state = body.left ? BODY_DATA : BODY_DONE;
    }
    return body;
}

// Takes the line at the front; 0 if its end is not there yet.
static size_t whole_line(const char *bytes, size_t size) {
    const char *end = memchr(bytes, '\n', size);
    return end ? (size_t)(end - bytes) + 1 : 0;
}

static size_t feed_data(struct http_body *body, const char *bytes, size_t size, http_take take, void *context) {
    size_t used = size < body->left ? size : body->left;
    take(context, bytes, used);
    body->left -= used;
    if (!body->left) body->state = body->chunked ? BODY_DATA_END : BODY_DONE;
    return used;
}

static size_t feed_line(struct http_body *body, const char *bytes, size_t size) {
    size_t line = whole_line(bytes, size);
    if (!line) return 0;
    if (body->state == BODY_SIZE) {
        char *end;
        body->left = strtoul(bytes, &end, 16);
        body->state = end == bytes ? BODY_BROKEN : body->left ? BODY_DATA : BODY_TRAILER;
    } else if (body->state == BODY_DATA_END) {
        body->state = BODY_SIZE;
    } else if (line <= 2) {  // the empty line behind the trailers
        body->state = BODY_DONE;
    }
    return line;
}

size_t http_body_feed(struct http_body *body, const char *bytes, size_t size, http_take take, void *context) {
    size_t used = 0;
    while (used < size && body->state != BODY_DONE && body->state != BODY_BROKEN) {
        size_t step = body->state == BODY_DATA ? feed_data(body, bytes + used, size - used, take, context)
                                               : feed_line(body, bytes + used, size - used);
        if (!step) break;
        used += step;
    }
    return used;
}
