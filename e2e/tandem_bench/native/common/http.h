// As much of HTTP/1.1 as a benchmark between well-behaved processes needs.
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct http_head {
    char method[8], path[256];  // of a request
    int status;                 // of a response
    long content_length;        // -1: not given
    bool chunked, expects_continue;
    size_t size;  // bytes up to and with the empty line
};

enum http_result { HTTP_PARTIAL, HTTP_COMPLETE, HTTP_BROKEN };

// Parses a request's or a response's head from the front of `bytes`, which must have one writable byte at its end.
enum http_result http_parse_head(char *bytes, size_t size, struct http_head *head);

// A body being read. `http_body_feed` hands its bytes to `take` as they come, without the chunks' framing.
struct http_body {
    enum { BODY_SIZE, BODY_DATA, BODY_DATA_END, BODY_TRAILER, BODY_DONE, BODY_BROKEN } state;
    bool chunked;
    size_t left;
};

typedef void (*http_take)(void *context, const char *bytes, size_t size);

struct http_body http_body_of(const struct http_head *head);
// How many of the bytes were used up; the rest belong to an unfinished line, or to what follows the body.
size_t http_body_feed(struct http_body *body, const char *bytes, size_t size, http_take take, void *context);
