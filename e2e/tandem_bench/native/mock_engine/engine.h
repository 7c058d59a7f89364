// A mock of an OpenAI-style LLM engine (vLLM's answers, SGLang's requests accepted), single-threaded over epoll.
//
// Every streamed chunk and every whole answer carries "@@" and 16 hexadecimal digits: CLOCK_MONOTONIC nanoseconds at
// the moment the engine wrote it, so that a client on the same host gets the chunk's time on the way.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/buffer.h"
#include "../common/clock.h"
#include "../common/http.h"

enum role { REGULAR, PREFILL, DECODE, ROLES };
extern const char *const ROLE_NAMES[ROLES];

struct settings {
    uint64_t itl, ttft, prefill;  // ns between tokens, to the first token, of a prefill leg
    bool steps;                   // all tokens leave at multiples of itl, as those of one batch do
};

struct counters {
    uint64_t requests, streams, chunks, handovers, aborts, accepted;
    int64_t open;
};

// What one request asks for, and how far it is.
struct generation {
    bool active, stream, chat, usage, keeps_kv;
    bool parked;  // its reader is slow: goes on when the output has drained
    int tokens, left;
    uint64_t due;
};

struct connection {
    int socket, port;
    enum role role;
    bool listens;  // accepts connections of this role; the rest is unused then
    bool closed, reads_body, waits_for_room;
    struct buffer in, body, out;
    struct http_head head;
    struct http_body reading;
    struct generation generation;
    size_t place;              // in the timers, from 1; 0: not there
    struct connection *grave;  // closed ones are freed after the events that may still name them
};

struct timers {
    struct connection **heap;  // by due time, from index 1
    size_t count, room;
};

struct engine {
    int epoll;
    struct settings settings;
    struct counters counters[ROLES];
    struct timers timers;
    struct connection *graves;
};

// timers.c
void timers_add(struct timers *timers, struct connection *c);
void timers_remove(struct timers *timers, struct connection *c);
struct connection *timers_first(const struct timers *timers);  // NULL if there is none

// connection.c
void listen_on(struct engine *engine, int port, enum role role);
void accept_all(struct engine *engine, struct connection *listener);
void connection_readable(struct engine *engine, struct connection *c);
void connection_writable(struct engine *engine, struct connection *c);
void connection_next(struct engine *engine, struct connection *c);  // starts requests that wait in the input
void connection_send(struct engine *engine, struct connection *c, const void *bytes, size_t size);
void connection_respond(struct engine *engine, struct connection *c, const char *status, const struct buffer *body);
void bury(struct engine *engine);

// generation.c
bool is_generation(const char *path);
void generation_start(struct engine *engine, struct connection *c);
void generation_go_on(struct engine *engine, struct connection *c);  // its time has come, or its output has drained

// pages.c
void answer_page(struct engine *engine, struct connection *c);
void set_from(struct settings *settings, const char *text);  // "itl_us=20000&steps=1"
